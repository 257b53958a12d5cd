package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/reviews"
)

// connectSSH runs a client with a configuration of its own, or writes that
// configuration to a file. The ssh client itself proves who comes in; nothing stands between it and the gateway.
func (a *access) connectSSH(c *cobra.Command, key, file string, command []string) error {
	if file == "" && len(command) == 0 {
		return usage("%s is an ssh host: give a command, sallyport connect %s --as %s -- ssh %s …, or --ssh-config FILE", a.connection, a.connection, a.principal, a.connection)
	}
	if file == "" {
		dir, err := os.MkdirTemp("", "sallyport-") // 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(dir)
		file = filepath.Join(dir, "config")
	}
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	if strings.ContainsAny(file, "\"\n %") {
		return usage("%s: ssh cannot be told a path with blanks, quotes or percent signs", file)
	}
	if err := a.writeSSHConfig(file, key); err != nil {
		return err
	}
	if len(command) == 0 {
		fmt.Fprintf(c.OutOrStdout(), "ssh -F %s %s\n", file, a.connection)
		return nil
	}
	// What takes a configuration gets it as an argument, what runs ssh itself by its variable.
	if slices.Contains([]string{"ssh", "scp", "sftp"}, filepath.Base(command[0])) {
		command = slices.Insert(slices.Clone(command), 1, "-F", file)
	}
	return runCommand(command, append(os.Environ(), "GIT_SSH_COMMAND=ssh -F "+file, "RSYNC_RSH=ssh -F "+file, "ANSIBLE_SSH_ARGS=-F "+file))
}

// writeSSHConfig writes the configuration, and beside it the gateway's key, which the trust root gives.
func (a *access) writeSSHConfig(file, key string) error {
	host, port, err := net.SplitHostPort(a.address)
	if err != nil {
		return err
	}
	alias := "sallyport-" + a.gateway.Name
	fields := strings.Fields(a.gateway.Key)
	if len(fields) < 2 {
		return fmt.Errorf("gateway %s of the trust root has no key", a.gateway.Name)
	}
	known := file + ".known_hosts"
	if err := os.WriteFile(known, []byte(alias+" "+fields[0]+" "+fields[1]+"\n"), 0o600); err != nil {
		return err
	}
	lines := []string{
		"# Written by sallyport connect: the way to " + a.connection + " through gateway " + a.gateway.Name + ".",
		"Host " + a.connection,
		"    HostName " + host,
		"    Port " + port,
		"    User " + a.principal + "+" + a.database(),
		"    HostKeyAlias " + alias,
		"    UserKnownHostsFile " + known,
		"    StrictHostKeyChecking yes",
		"    ForwardAgent no",
	}
	if key != "" {
		path, err := filepath.Abs(strings.TrimSuffix(key, ".pub"))
		if err != nil {
			return err
		}
		lines = append(lines, "    IdentityFile \""+path+"\"", "    IdentitiesOnly yes")
	}
	return os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
}

// protocolOf is what a connection speaks; "" when it is not there.
func protocolOf(tree *reviews.Tree, connection string) string {
	if c := tree.Connections[connection]; c != nil {
		return c.Spec.Protocol
	}
	return ""
}
