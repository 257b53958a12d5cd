package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport-dev/sallyport/policies/release"
	"github.com/sallyport-dev/sallyport/reviews"
)

// extendOptions are the flags of extend.
type extendOptions struct{ release, until, reason, out, publish string }

func newExtend(g *globals) *cobra.Command {
	o := &extendOptions{}
	c := &cobra.Command{
		Use:   "extend --release LOCATION --until TIME --reason TEXT",
		Short: "Draft the order that lets gateways use a release longer",
		Long: `A release holds for a day or so, and sync only signs a new one when it reached the
remote. To bridge an outage of the forge, the trust root's members extend the release
that gateways have: extend writes extension.yaml beside it, which they sign by the
threshold of the root. It holds for that one release only, and gateways take it up to
a week beyond the release's end unless their maxExtension says otherwise.

Nothing can be revoked while an extension is in use: take it as short as you can.

Where the release is not a directory, write the order to a file with --out, have it
signed, and bring it there with --publish.`,
		Example: `  sallyport extend --release /var/lib/sallyport/release --until 2026-11-26T06:00:00Z --reason "forge outage INC-7"
  sallyport sign /var/lib/sallyport/release/extension.yaml --as user:bob   # in a clone of the access repo
  sallyport extend --release s3://acme-releases/prod --until 2026-11-26T06:00:00Z --reason "forge outage INC-7" --out extension.yaml
  sallyport extend --release s3://acme-releases/prod --publish extension.yaml   # once it is signed`,
		Args: arguments(0, 0, ""),
		RunE: func(c *cobra.Command, _ []string) error {
			if o.publish != "" {
				if err := need(c, "release"); err != nil {
					return err
				}
				return o.bring(c.Context(), c.OutOrStdout())
			}
			if err := need(c, "release", "until", "reason"); err != nil {
				return err
			}
			return o.run(c.Context(), c.OutOrStdout(), time.Now())
		},
	}
	c.Flags().StringVar(&o.release, "release", "", "where gateways find the release: a directory, https://… or s3://bucket/prefix")
	c.Flags().StringVar(&o.until, "until", "", "until when, such as 2026-11-26T06:00:00Z")
	c.Flags().StringVar(&o.reason, "reason", "", "why, for whoever reads this later")
	c.Flags().StringVar(&o.out, "out", "", "file to write (default: extension.yaml in --release when that is a directory, else here)")
	c.Flags().StringVar(&o.publish, "publish", "", "write nothing new: bring this signed order, and what lies in FILE.sigs/, beside the release")
	return c
}

func (o *extendOptions) run(ctx context.Context, out io.Writer, now time.Time) error {
	until, err := time.Parse(time.RFC3339, o.until)
	if err != nil {
		return usage("--until %s: write it like 2026-11-26T06:00:00Z", o.until)
	}
	until = until.UTC().Truncate(time.Second)
	from, err := releaseSource(ctx, o.release)
	if err != nil {
		return err
	}
	envelope, err := readEnvelope(ctx, from)
	if err != nil {
		return err
	}
	beyond := until.Sub(envelope.ValidUntil)
	switch {
	case !until.After(now):
		return usage("--until %s is over already", stamp(until))
	case beyond <= 0:
		return usage("--until %s gains nothing: release %d is valid until %s as it is", stamp(until), envelope.Sequence, stamp(envelope.ValidUntil))
	case beyond > release.MaxExtension:
		return usage("--until %s is more than %s beyond the release's end, during which nothing could be revoked: extend for less", stamp(until), span(release.MaxExtension))
	}
	text := fmt.Sprintf("apiVersion: sallyport.dev/v1\nkind: Extension\nmetadata: {repo: %s, name: extension}\nspec:\n  release: %s\n  until: %q\n  reason: %q\n",
		envelope.Repo, envelope.Digest(), until.Format(time.RFC3339), o.reason)
	if _, err := reviews.ParseExtension(reviews.ExtensionPath, []byte(text)); err != nil {
		return err
	}
	file := o.out
	dir, local := from.(release.Folder)
	switch {
	case file == "" && local:
		file = filepath.Join(string(dir), reviews.ExtensionPath)
	case file == "":
		file = reviews.ExtensionPath
	}
	if err := os.RemoveAll(file + ".sigs"); err != nil { // of an order before, which no longer holds
		return err
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "wrote %[1]s: release %[2]d of commit %.12[3]s until %[4]s\n", file, envelope.Sequence, envelope.Commit, stamp(until))
	if beyond > release.DefaultMaxExtension {
		fmt.Fprintf(out, "  that is %s beyond the release's end: gateways refuse it unless their maxExtension is at least that\n", span(beyond))
	}
	fmt.Fprintf(out, "  1. members of the root sign it, in a clone of the access repo: sallyport sign %s --as user:YOU\n", file)
	if local {
		fmt.Fprintf(out, "  2. %[1]s and %[1]s.sigs/ have to stand beside release.json of every gateway\n", reviews.ExtensionPath)
	} else {
		fmt.Fprintf(out, "  2. sallyport extend --release '%s' --publish %s\n", o.release, file)
	}
	return nil
}

// bring puts a signed order beside the release: the one before goes first, and the
// order comes last, when its signatures are there.
func (o *extendOptions) bring(ctx context.Context, out io.Writer) error {
	to, err := releaseTarget(ctx, o.release)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(o.publish)
	if err != nil {
		return err
	}
	if _, err := reviews.ParseExtension(reviews.ExtensionPath, text); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(o.publish+".sigs", "*.sig"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return hint(fmt.Errorf("%s is not signed", o.publish), "members of the root sign it with `sallyport sign %s`", o.publish)
	}
	if err := to.Remove(ctx, reviews.ExtensionPath); err != nil {
		return err
	}
	const sidecars = reviews.ExtensionPath + ".sigs"
	old, err := to.List(ctx, sidecars)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		if err := to.Remove(ctx, name); err != nil {
			return err
		}
	}
	for _, file := range files {
		signature, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := to.Put(ctx, path.Join(sidecars, filepath.Base(file)), signature); err != nil {
			return err
		}
	}
	if err := to.Put(ctx, reviews.ExtensionPath, text); err != nil {
		return err
	}
	fmt.Fprintf(out, "brought %s with %s to %s; `gatewayd status` says whether it holds\n", o.publish, count(len(files), "signature"), to)
	return nil
}

// readEnvelope reads what a release says of itself. Nothing is verified: the
// gateways that are to use it did that.
func readEnvelope(ctx context.Context, from release.Source) (release.Envelope, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var signed struct {
		Payload []byte `json:"payload"`
	}
	var e release.Envelope
	b, _, err := from.Get(ctx, release.EnvelopeFile, "", release.MaxBundle)
	if errors.Is(err, fs.ErrNotExist) {
		return e, hint(fmt.Errorf("%s holds no release", from), "name the place that sync was given as --out, or where gateways find it")
	}
	if err != nil {
		return e, fmt.Errorf("%s: %w", from, err)
	}
	if err := errors.Join(json.Unmarshal(b, &signed), json.Unmarshal(signed.Payload, &e)); err != nil || e.Sequence < 1 {
		return e, fmt.Errorf("%s of %s is not a release", release.EnvelopeFile, from)
	}
	return e, nil
}
