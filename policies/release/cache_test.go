package release

// KeepEntries has connections with that many reviews remember how each is written.
func KeepEntries(count int) (before int) {
	before, keepEntries = keepEntries, count
	return before
}
