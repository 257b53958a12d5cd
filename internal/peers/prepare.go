package peers

import (
	"context"
	"errors"
)

// Prepare makes sure that every peer is there: it finds or fetches each and tells where it is. The error
// names all that are missing.
func Prepare(ctx context.Context, progress Progress) error {
	var missing []error
	for _, tool := range []struct {
		name string
		find func() (*Tool, error)
	}{
		{"git", func() (*Tool, error) { return Git("/nonexistent") }},
		{"ssh-keygen", SSHKeygen},
		{"sshd", func() (*Tool, error) { return findSSHD(ctx, progress) }},
		{"rsync", func() (*Tool, error) { return Rsync(ctx, progress) }},
		{"ansible", func() (*Tool, error) { return Ansible(ctx, progress) }},
		{"psql", func() (*Tool, error) { return Psql(ctx, progress) }},
	} {
		found, err := tool.find()
		if err != nil {
			missing = append(missing, err)
			continue
		}
		if tool.name != "psql" { // which tells for itself
			progress.say("%s: %s", tool.name, found.Path)
		}
	}
	as, err := serverAccount()
	if err == nil {
		_, err = findServer(ctx, PostgresOptions{Progress: progress}, as)
	}
	return errors.Join(append(missing, err)...)
}
