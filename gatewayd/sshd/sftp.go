package sshd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/sallyport-dev/sallyport/gatewayd"
	"github.com/sallyport-dev/sallyport/gatewayd/record"
	"github.com/sallyport-dev/sallyport/gatewayd/sshd/cmdline"
	"github.com/sallyport-dev/sallyport/policies"
)

// files is one sftp channel. Every path is first resolved by the host itself, so
// that links and ".." are decided on by where they lead, and what is sent on is the
// resolved path. Requests carry ids of the gateway's own towards the host.
//
// A host whose REALPATH does not follow links, as OpenSSH's does, is decided on by the names alone.
type files struct {
	ch     *channel
	client io.Writer
	host   io.Writer

	writing sync.Mutex // towards the client

	mu      sync.Mutex
	last    uint32
	pending map[uint32]*pending // what the host has not answered; guarded by mu
	handles map[string]*file    // open at the host; guarded by mu
	gone    error               // the host's side has ended; guarded by mu
}

// pending is a request that the host has not answered yet.
type pending struct {
	client uint32       // the client's id
	answer func(packet) // looks at the answer before the client gets it
	mine   chan packet  // set for the gateway's own requests
}

// file is an open file or folder.
type file struct {
	command *gatewayd.Command
	write   bool
	folder  bool

	mu        sync.Mutex
	in, out   int64 // bytes from and to the host
	sum       hash.Hash
	next      uint64 // offset at which the digest goes on
	scattered bool   // not in order, so there is no digest
	names     int64
}

const maxPending = 4096

func (ch *channel) sftp() {
	command, err := ch.s.start(cmdline.Files(), "")
	if err != nil {
		ch.deny(err)
		return
	}
	defer command.End(record.Result{Outcome: "ok"})
	there, requests, err := ch.open()
	if err != nil {
		ch.deny(err)
		return
	}
	defer there.Close()
	go ssh.DiscardRequests(requests)
	if ok, err := there.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"sftp"})); err != nil || !ok {
		ch.note("the host has no sftp")
		ch.exit(255)
		return
	}
	leave := ch.s.enter(&remote{kill: func() { there.Close() }, notes: ch.note})
	defer leave()
	go func() {
		for r := range ch.requests {
			r.Reply(false, nil)
		}
		there.Close()
	}()
	f := &files{ch: ch, client: ch.client, host: there, pending: map[uint32]*pending{}, handles: map[string]*file{}}
	if err := f.greet(ch.client, there); err != nil {
		ch.note(err.Error())
		ch.exit(1)
		return
	}
	answers := make(chan error, 1)
	go func() { answers <- f.answers(there) }()
	err = eachPacket(ch.client, f.request)
	there.CloseWrite()
	there.Close()
	<-answers
	f.closeAll()
	if err != nil && !errors.Is(err, io.EOF) {
		ch.s.server.options.Log.Debug("sftp ended", "session", ch.s.core.ID(), "error", err)
	}
	ch.exit(0)
}

// extensions are those of OpenSSH that are understood here, and so offered to clients.
var extensions = map[string]bool{
	"posix-rename@openssh.com": true, "hardlink@openssh.com": true, "fsync@openssh.com": true,
	"lsetstat@openssh.com": true, "limits@openssh.com": true, "statvfs@openssh.com": true,
}

// greet carries INIT and VERSION, and leaves out what is not understood here.
func (f *files) greet(client io.Reader, host io.ReadWriter) error {
	first, _, err := readPacket(client, nil)
	if err != nil {
		return err
	}
	if first.kind() != fxpInit {
		return fmt.Errorf("%w: it begins without INIT", errPacket)
	}
	if _, err := host.Write(builder{0, 0, 0, 0, fxpInit}.uint32(3).done()); err != nil {
		return err
	}
	answer, _, err := readPacket(host, nil)
	if err != nil {
		return fmt.Errorf("the host's sftp did not begin: %w", err)
	}
	fs := &fields{b: answer[5:]}
	if version := fs.uint32(); answer.kind() != fxpVersion || version != 3 {
		return errors.New("the host does not speak version 3 of sftp")
	}
	out := builder{0, 0, 0, 0, fxpVersion}.uint32(3)
	for len(fs.b) > 0 && !fs.bad {
		name, value := fs.string(), fs.string()
		if !fs.bad && extensions[name] {
			out = out.string(name).string(value)
		}
	}
	return f.toClient(out.done())
}

func (f *files) toClient(p packet) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	_, err := f.client.Write(p)
	return err
}

// request serves one request. An error ends the channel.
func (f *files) request(p packet) error {
	id, in := p.id(), p.payload()
	err := f.serve(p, id, in)
	denied := (*gatewayd.Denied)(nil)
	switch {
	case err == nil:
		return nil
	case in.bad:
		return f.toClient(statusPacket(id, fxBadMessage, "sallyport: the request cannot be read"))
	case errors.As(err, &denied):
		f.ch.say(denied) // clients show their own words for the code, so the reason goes where it is seen
		return f.toClient(statusPacket(id, fxPermissionDenied, "sallyport: "+printable(denied.Error())))
	case context.Cause(f.ch.s.core.Context()) != nil:
		return err
	}
	status := (*statusError)(nil)
	if errors.As(err, &status) {
		return f.toClient(statusPacket(id, status.code, status.text))
	}
	return err
}

// statusError is an answer other than OK.
type statusError struct {
	code uint32
	text string
}

func (e *statusError) Error() string { return e.text }

func (f *files) serve(p packet, id uint32, in *fields) error {
	switch p.kind() {
	case fxpOpen:
		return f.open(id, in)
	case fxpOpendir:
		return f.opendir(id, in)
	case fxpClose, fxpRead, fxpWrite, fxpFstat, fxpReaddir, fxpFsetstat:
		return f.onHandle(p, id, in)
	case fxpRealpath:
		return f.realpath(id, in)
	case fxpStat, fxpLstat, fxpReadlink:
		return f.look(p.kind(), id, in)
	case fxpSetstat:
		return f.onPath(p.kind(), id, in, "attributes", true)
	case fxpRemove, fxpRmdir:
		return f.onPath(p.kind(), id, in, "remove", false)
	case fxpMkdir:
		return f.onPath(p.kind(), id, in, "write", false)
	case fxpRename:
		return f.onTwo(id, in, "rename", func(from, to string) packet { return newPacket(fxpRename, 0).string(from).string(to).done() })
	case fxpSymlink:
		return f.symlink(id, in)
	case fxpExtended:
		return f.extended(p, id, in)
	}
	f.ch.s.core.Refuse(fmt.Sprintf("(sftp request %d)", p.kind()), "sftp_refused", "this request of sftp is not served")
	return &statusError{fxUnsupported, "not served"}
}

// ask sends a request of the gateway's own and waits for the answer.
func (f *files) ask(p packet) (packet, error) {
	mine := make(chan packet, 1)
	if err := f.send(p, &pending{mine: mine}); err != nil {
		return nil, err
	}
	select {
	case a, open := <-mine:
		if !open {
			return nil, io.ErrUnexpectedEOF
		}
		return a, nil
	case <-f.ch.s.core.Context().Done():
		return nil, context.Cause(f.ch.s.core.Context())
	}
}

// send sends a request to the host under an id of the gateway's own.
func (f *files) send(p packet, w *pending) error {
	f.mu.Lock()
	if f.gone != nil || len(f.pending) >= maxPending {
		f.mu.Unlock()
		return errors.Join(f.gone, io.ErrUnexpectedEOF)
	}
	for f.pending[f.last] != nil || f.last == 0 {
		f.last++
	}
	p.setID(f.last)
	f.pending[f.last] = w
	f.last++
	f.mu.Unlock()
	_, err := f.host.Write(p)
	return err
}

// answers carries what the host says to the client.
func (f *files) answers(host io.Reader) error {
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.gone = io.EOF
		for _, w := range f.pending {
			if w.mine != nil {
				close(w.mine)
			}
		}
		f.pending = map[uint32]*pending{}
	}()
	return eachPacket(host, func(p packet) error {
		f.mu.Lock()
		w := f.pending[p.id()]
		delete(f.pending, p.id())
		f.mu.Unlock()
		switch {
		case w == nil:
			return fmt.Errorf("%w: the host answers what nobody asked", errPacket)
		case w.mine != nil:
			w.mine <- append(packet(nil), p...)
			return nil
		case w.answer != nil:
			w.answer(p)
		}
		p.setID(w.client)
		return f.toClient(p)
	})
}

// resolve asks the host where a path leads. whole follows the last part too.
func (f *files) resolve(p string, whole bool) (string, error) {
	if strings.ContainsRune(p, 0) {
		return "", &statusError{fxBadMessage, "a path with a zero byte"}
	}
	dir, base := p, ""
	if !whole {
		trimmed := strings.TrimRight(p, "/")
		dir, base = path.Split(trimmed)
		if base == "." || base == ".." || base == "" {
			dir, base = p, ""
		} else if dir == "" {
			dir = "."
		}
	}
	answer, err := f.ask(newPacket(fxpRealpath, 0).string(dir).done())
	if err != nil {
		return "", err
	}
	in := answer.payload()
	if answer.kind() == fxpStatus {
		return "", &statusError{in.uint32(), printable(in.string())}
	}
	if n, name := in.uint32(), in.string(); answer.kind() == fxpName && n == 1 && !in.bad && path.IsAbs(name) {
		return path.Join(name, base), nil
	}
	return "", errPacket
}

// begin decides on an operation on resolved paths and starts it. asked are the paths as the client wrote them.
func (f *files) begin(operation string, asked, resolved []string) (*gatewayd.Command, error) {
	c := cmdline.File(operation, resolved...)
	return f.start(c, asked, resolved)
}

func (f *files) start(c policies.Command, asked, resolved []string) (*gatewayd.Command, error) {
	for i, a := range asked {
		if a != resolved[i] {
			c.Statement += fmt.Sprintf(", asked for as %q", clip(a))
		}
	}
	return f.ch.s.start(c, "")
}

// short sends a request whose answer ends its command.
func (f *files) short(id uint32, p packet, command *gatewayd.Command) error {
	return f.send(p, &pending{client: id, answer: func(a packet) { command.End(resultOf(a)) }})
}

func resultOf(a packet) record.Result {
	if a.kind() != fxpStatus {
		return record.Result{Outcome: "ok"}
	}
	in := a.payload()
	if code := in.uint32(); code != fxOK {
		return record.Result{Outcome: "failed", Tag: fmt.Sprintf("status %d", code)}
	}
	return record.Result{Outcome: "ok"}
}

func (f *files) open(id uint32, in *fields) error {
	asked, flags, a := in.string(), in.uint32(), in.attrs()
	if in.bad {
		return errPacket
	}
	resolved, err := f.resolve(asked, true)
	if err != nil {
		return err
	}
	write := flags&(fxfWrite|fxfAppend|fxfCreate|fxfTruncate) != 0
	c := cmdline.File("read", resolved)
	if write {
		c = cmdline.File("write", resolved)
		if flags&fxfRead != 0 {
			c.Effects = append(c.Effects, policies.Effect{Verb: "sftp_read", Object: resolved})
		}
	}
	if !a.ordinary() {
		c.Effects = append(c.Effects, policies.Effect{Verb: "sftp_attributes", Object: resolved})
	}
	command, err := f.start(c, []string{asked}, []string{resolved})
	if err != nil {
		return err
	}
	// What is not understood of the attributes is not sent.
	p := newPacket(fxpOpen, 0).string(resolved).uint32(flags & (fxfRead | fxfWrite | fxfAppend | fxfCreate | fxfTruncate | fxfExclusive))
	if a.flags&attrPermissions != 0 {
		p = p.uint32(attrPermissions).uint32(a.mode)
	} else {
		p = p.uint32(0)
	}
	return f.opened(id, p.done(), &file{command: command, write: write, sum: sha256.New(), scattered: flags&fxfAppend != 0})
}

func (f *files) opendir(id uint32, in *fields) error {
	asked := in.string()
	if in.bad {
		return errPacket
	}
	resolved, err := f.resolve(asked, true)
	if err != nil {
		return err
	}
	command, err := f.begin("read", []string{asked}, []string{resolved})
	if err != nil {
		return err
	}
	return f.opened(id, newPacket(fxpOpendir, 0).string(resolved).done(), &file{command: command, folder: true})
}

// opened sends an open whose handle then stands for the file.
func (f *files) opened(id uint32, p packet, o *file) error {
	return f.send(p, &pending{client: id, answer: func(a packet) {
		in := a.payload()
		handle := in.string()
		if a.kind() != fxpHandle || in.bad {
			o.command.End(resultOf(a))
			return
		}
		f.mu.Lock()
		f.handles[handle] = o
		f.mu.Unlock()
	}})
}

// onHandle serves what is done with an open file.
func (f *files) onHandle(p packet, id uint32, in *fields) error {
	handle := in.string()
	f.mu.Lock()
	o := f.handles[handle]
	f.mu.Unlock()
	if in.bad {
		return errPacket
	}
	if o == nil {
		return &statusError{fxFailure, "not an open file"}
	}
	w := &pending{client: id}
	switch p.kind() {
	case fxpClose:
		f.mu.Lock()
		delete(f.handles, handle)
		f.mu.Unlock()
		w.answer = func(a packet) { o.end(resultOf(a).Outcome) }
	case fxpRead:
		offset := in.uint64()
		w.answer = func(a packet) { f.received(o, offset, a) }
	case fxpWrite:
		offset, data := in.uint64(), in.bytes()
		if !in.bad {
			o.sent(offset, data)
		}
	case fxpReaddir:
		w.answer = func(a packet) {
			if a.kind() == fxpName {
				fs := a.payload()
				o.mu.Lock()
				o.names += int64(fs.uint32())
				o.mu.Unlock()
			}
		}
	case fxpFsetstat:
		if a := in.attrs(); !in.bad && (!o.write || !a.ordinary()) {
			f.ch.s.core.Refuse("(sftp) attributes of an open file", "sftp_refused", "the attributes of an open file are set only by who writes it, and without owner and special bits")
			return &statusError{fxPermissionDenied, "sallyport: set attributes by path, where a rule for sftp: attributes allows it"}
		}
	}
	if in.bad {
		return errPacket
	}
	return f.send(append(packet(nil), p...), w)
}

// received counts and digests what a read brought, before the client sees it.
func (f *files) received(o *file, offset uint64, a packet) {
	if a.kind() != fxpData {
		return
	}
	in := a.payload()
	data := in.bytes()
	if err := o.command.AddRows(0, int64(len(data))); err != nil {
		return // the session has been cut
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.in += int64(len(data))
	o.digest(offset, data)
}

func (o *file) sent(offset uint64, data []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.out += int64(len(data))
	o.digest(offset, data)
}

// digest goes on with the digest when data follows what came before. Callers hold mu.
func (o *file) digest(offset uint64, data []byte) {
	if o.scattered || o.sum == nil || offset != o.next || o.in > 0 && o.out > 0 {
		o.scattered = true
		return
	}
	o.sum.Write(data)
	o.next += uint64(len(data))
}

// end records what was done with the file.
func (o *file) end(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	r := record.Result{Outcome: outcome, Bytes: o.in + o.out}
	switch {
	case o.folder:
		r.Tag, r.Rows = fmt.Sprintf("%d names", o.names), o.names
	case o.scattered:
		r.Tag = fmt.Sprintf("%d bytes read, %d written, not in order, so without a digest", o.in, o.out)
	case o.write:
		r.Tag = fmt.Sprintf("%d bytes written, sha256:%s", o.out, hex.EncodeToString(o.sum.Sum(nil)))
	default:
		r.Tag = fmt.Sprintf("%d bytes read, sha256:%s", o.in, hex.EncodeToString(o.sum.Sum(nil)))
	}
	o.command.End(r)
}

// closeAll ends the commands of what the client left open.
func (f *files) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range f.handles {
		o.end(record.OutcomeUnknown)
	}
	f.handles = nil
}

func (f *files) realpath(id uint32, in *fields) error {
	asked := in.string()
	if in.bad {
		return errPacket
	}
	resolved, err := f.resolve(asked, true)
	if err != nil {
		return err
	}
	if asked != "." && asked != "" { // where a client is at first, everybody may know
		command, err := f.begin("stat", []string{asked}, []string{resolved})
		if err != nil {
			return err
		}
		command.End(record.Result{Outcome: "ok"})
	}
	return f.toClient(newPacket(fxpName, id).uint32(1).string(resolved).string(resolved).uint32(0).done())
}

// look serves STAT, LSTAT and READLINK.
func (f *files) look(kind byte, id uint32, in *fields) error {
	asked := in.string()
	if in.bad {
		return errPacket
	}
	resolved, err := f.resolve(asked, kind == fxpStat)
	if err != nil {
		return err
	}
	operation := "stat"
	if kind == fxpReadlink {
		operation = "read"
	}
	command, err := f.begin(operation, []string{asked}, []string{resolved})
	if err != nil {
		return err
	}
	return f.short(id, newPacket(kind, 0).string(resolved).done(), command)
}

// onPath serves a request whose first field is a path, and whose rest is attributes or nothing.
func (f *files) onPath(kind byte, id uint32, in *fields, operation string, whole bool) error {
	asked := in.string()
	rest := in.b
	effects := []string{operation}
	if kind == fxpSetstat || kind == fxpMkdir {
		if a := in.attrs(); kind == fxpMkdir && !a.ordinary() {
			effects = append(effects, "attributes")
		}
	}
	if in.bad || len(in.b) > 0 {
		in.bad = true
		return errPacket
	}
	resolved, err := f.resolve(asked, whole)
	if err != nil {
		return err
	}
	c := cmdline.File(operation, resolved)
	for _, more := range effects[1:] {
		c.Effects = append(c.Effects, cmdline.File(more, resolved).Effects...)
	}
	command, err := f.start(c, []string{asked}, []string{resolved})
	if err != nil {
		return err
	}
	return f.short(id, newPacket(kind, 0).string(resolved).raw(rest).done(), command)
}

func (f *files) onTwo(id uint32, in *fields, operation string, build func(from, to string) packet) error {
	asked := []string{in.string(), in.string()}
	if in.bad || len(in.b) > 0 {
		in.bad = true
		return errPacket
	}
	var resolved []string
	for _, a := range asked {
		r, err := f.resolve(a, false)
		if err != nil {
			return err
		}
		resolved = append(resolved, r)
	}
	command, err := f.begin(operation, asked, resolved)
	if err != nil {
		return err
	}
	return f.short(id, build(resolved[0], resolved[1]), command)
}

// symlink makes a link, whose own place and whose target both have to be allowed. OpenSSH's order is the target first.
func (f *files) symlink(id uint32, in *fields) error {
	target, link := in.string(), in.string()
	if in.bad || len(in.b) > 0 {
		in.bad = true
		return errPacket
	}
	at, err := f.resolve(link, false)
	if err != nil {
		return err
	}
	leads := target
	if !path.IsAbs(leads) {
		leads = path.Dir(at) + "/" + leads
	}
	to, err := f.resolve(leads, true)
	if err != nil {
		return err
	}
	command, err := f.begin("links", []string{link, target}, []string{at, to})
	if err != nil {
		return err
	}
	return f.short(id, newPacket(fxpSymlink, 0).string(to).string(at).done(), command)
}

func (f *files) extended(p packet, id uint32, in *fields) error {
	name := in.string()
	ext := func() builder { return newPacket(fxpExtended, 0).string(name) }
	switch name {
	case "posix-rename@openssh.com":
		return f.onTwo(id, in, "rename", func(from, to string) packet { return ext().string(from).string(to).done() })
	case "hardlink@openssh.com":
		return f.onTwo(id, in, "links", func(from, to string) packet { return ext().string(from).string(to).done() })
	case "limits@openssh.com":
		return f.send(ext().done(), &pending{client: id})
	case "fsync@openssh.com":
		handle := in.string()
		f.mu.Lock()
		o := f.handles[handle]
		f.mu.Unlock()
		if o == nil || in.bad {
			return &statusError{fxFailure, "not an open file"}
		}
		return f.send(ext().string(handle).done(), &pending{client: id})
	case "statvfs@openssh.com", "lsetstat@openssh.com":
		asked, rest := in.string(), in.b
		operation := "stat"
		if name == "lsetstat@openssh.com" {
			operation = "attributes"
			in.attrs()
		}
		if in.bad || len(in.b) > 0 {
			in.bad = true
			return errPacket
		}
		resolved, err := f.resolve(asked, operation == "stat")
		if err != nil {
			return err
		}
		command, err := f.begin(operation, []string{asked}, []string{resolved})
		if err != nil {
			return err
		}
		return f.short(id, ext().string(resolved).raw(rest).done(), command)
	}
	f.ch.s.core.Refuse("(sftp extension "+clip(name)+")", "sftp_refused", "this extension of sftp is not served")
	return &statusError{fxUnsupported, "not served"}
}
