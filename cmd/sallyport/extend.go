package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// maxExtension is how far an extension reaches beyond now: longer outages are better
// looked at again.
const maxExtension = 31 * 24 * time.Hour

// extendOptions are the flags of extend.
type extendOptions struct{ release, until, reason, out string }

func newExtend(g *globals) *cobra.Command {
	o := &extendOptions{}
	c := &cobra.Command{
		Use:   "extend --release DIR --until TIME --reason TEXT",
		Short: "Draft the order that lets gateways use a release longer",
		Long: `A release holds for a day or so, and sync only signs a new one when it reached the
remote. To bridge an outage of the forge, the trust root's members extend the release
that gateways have: extend writes extension.yaml beside it, which they sign by the
threshold of the root. It holds for that one release only.

Nothing can be revoked while an extension is in use: take it as short as you can.`,
		Example: `  sallyport extend --release /var/lib/sallyport/release --until 2026-11-26T06:00:00Z --reason "forge outage INC-7"
  sallyport sign /var/lib/sallyport/release/extension.yaml --as user:bob   # in a clone of the access repo`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if err := need(c, "release", "until", "reason"); err != nil {
				return err
			}
			return o.run(c.OutOrStdout(), time.Now())
		},
	}
	c.Flags().StringVar(&o.release, "release", "", "the release directory that gateways watch, or a copy")
	c.Flags().StringVar(&o.until, "until", "", "until when, such as 2026-11-26T06:00:00Z")
	c.Flags().StringVar(&o.reason, "reason", "", "why, for whoever reads this later")
	c.Flags().StringVar(&o.out, "out", "", "file to write (default: extension.yaml in --release)")
	return c
}

func (o *extendOptions) run(out io.Writer, now time.Time) error {
	until, err := time.Parse(time.RFC3339, o.until)
	if err != nil {
		return usage("--until %s: write it like 2026-11-26T06:00:00Z", o.until)
	}
	until = until.UTC().Truncate(time.Second)
	envelope, err := readEnvelope(o.release)
	if err != nil {
		return err
	}
	switch {
	case !until.After(now):
		return usage("--until %s is over already", stamp(until))
	case !until.After(envelope.ValidUntil):
		return usage("--until %s gains nothing: release %d is valid until %s as it is", stamp(until), envelope.Sequence, stamp(envelope.ValidUntil))
	case until.After(now.Add(maxExtension)):
		return usage("--until %s is more than %s away, during which nothing could be revoked: extend for less, and again if need be", stamp(until), span(maxExtension))
	}
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Extension\nmetadata: {repo: %s, name: extension}\nspec:\n  release: %s\n  until: %q\n  reason: %q\n",
		envelope.Repo, envelope.Digest(), until.Format(time.RFC3339), o.reason)
	if _, err := reviews.ParseExtension(reviews.ExtensionPath, []byte(text)); err != nil {
		return err
	}
	path := o.out
	if path == "" {
		path = filepath.Join(o.release, reviews.ExtensionPath)
	}
	if err := os.RemoveAll(path + ".sigs"); err != nil { // of an order before, which no longer holds
		return err
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, `wrote %[1]s: release %[2]d of commit %.12[3]s until %[4]s
  1. members of the root sign it, in a clone of the access repo: sallyport sign %[1]s --as user:YOU
  2. %[5]s and %[5]s.sigs/ have to stand beside release.json of every gateway
`, path, envelope.Sequence, envelope.Commit, stamp(until), reviews.ExtensionPath)
	return nil
}

// readEnvelope reads what a release says of itself. Nothing is verified: the
// gateways that are to use it did that.
func readEnvelope(dir string) (release.Envelope, error) {
	var signed struct {
		Payload []byte `json:"payload"`
	}
	var e release.Envelope
	b, err := os.ReadFile(filepath.Join(dir, release.EnvelopeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return e, hint(fmt.Errorf("%s holds no release", dir), "name the directory that sync was given as --out")
	}
	if err != nil {
		return e, err
	}
	if err := errors.Join(json.Unmarshal(b, &signed), json.Unmarshal(signed.Payload, &e)); err != nil || e.Sequence < 1 {
		return e, fmt.Errorf("%s is not a release", filepath.Join(dir, release.EnvelopeFile))
	}
	return e, nil
}
