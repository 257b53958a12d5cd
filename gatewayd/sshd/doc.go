// Package sshd is the SSH engine: a server to clients and a client to hosts, on
// golang.org/x/crypto/ssh. It decides nothing itself: cmdline says what a request
// is, gatewayd says whether it may be.
//
// One connection of a client is one session, under one review. Each exec, shell,
// forwarding and each file of sftp is one command of it. The host is dialled when the
// first command is allowed, and sees only what was allowed: a denied exec opens no channel there.
//
// The invariant: what a client sends for a command goes to the host only after
// gatewayd started the command and made its record durable; what the host
// answers goes to the client only after it was masked and recorded.
//
// What is promised differs. An exec is decided on as the host will read it, a file
// by its path, also where links lead. In a shell nothing is decided on: such
// commands are recorded, and summarised, as "session-level enforcement".
package sshd
