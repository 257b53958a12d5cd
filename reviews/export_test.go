package reviews

// Recalled is how many reviews were taken from disk.
func Recalled(c *Cache) int64 { return c.recalled.Load() }
