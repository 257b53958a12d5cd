package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

func newVersion(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print which build this is",
		Example: `  sallyport version
  sallyport version --json`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			b := build()
			if g.json {
				return printJSON(c.OutOrStdout(), b)
			}
			fmt.Fprintf(c.OutOrStdout(), "sallyport %s (%s, %s, %s/%s)\n", b.Version, b.Commit, b.Go, b.OS, b.Arch)
			return nil
		},
	}
	g.jsonFlag(c)
	return c
}

type buildInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
	OS      string `json:"os"`
	Arch    string `json:"arch"`
}

// build is what the Go linker recorded.
func build() buildInfo {
	b := buildInfo{Version: "(devel)", Commit: "unknown commit", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.Commit = s.Value
		}
	}
	return b
}
