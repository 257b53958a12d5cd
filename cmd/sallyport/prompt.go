package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"
)

// prompt asks on the terminal. Tab completes the last word of the answer.
type prompt struct {
	terminal *term.Terminal
	words    []string // what the present answer may consist of
	restore  func()
}

// openPrompt takes the terminal over. nil, without an error, where there is none.
func openPrompt() (*prompt, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return nil, nil
	}
	before, err := term.MakeRaw(in)
	if err != nil {
		return nil, fmt.Errorf("the terminal cannot be asked on: %w", err)
	}
	p := &prompt{restore: func() { _ = term.Restore(in, before) }}
	p.terminal = term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{os.Stdin, os.Stderr}, "")
	if width, height, err := term.GetSize(in); err == nil && width > 0 {
		_ = p.terminal.SetSize(width, height)
	}
	p.terminal.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		line, pos = completeWord(line, pos, p.words)
		return line, pos, true
	}
	return p, nil
}

// close gives the terminal back. It may be called twice, and without a terminal.
func (p *prompt) close() {
	if p != nil && p.restore != nil {
		p.restore()
		p.restore = nil
	}
}

// say prints lines between questions.
func (p *prompt) say(text string) {
	for _, line := range strings.Split(text, "\n") {
		fmt.Fprintln(p.terminal, oneLine(line))
	}
}

// ask asks until good accepts the answer. An empty answer is otherwise.
func (p *prompt) ask(question, otherwise string, words []string, good func(string) error) (string, error) {
	p.words = words
	if len(words) > 0 {
		p.say("  " + shortList(words, 20) + "  (Tab completes)")
	}
	suffix := ": "
	if otherwise != "" {
		suffix = " [" + otherwise + "]: "
	}
	p.terminal.SetPrompt(question + suffix)
	for {
		line, err := p.terminal.ReadLine()
		if errors.Is(err, io.EOF) {
			return "", errors.New("nothing was asked for")
		}
		if err != nil && !errors.Is(err, term.ErrPasteIndicator) {
			return "", err
		}
		if line = strings.TrimSpace(line); line == "" {
			line = otherwise
		}
		if err := good(line); err != nil {
			p.say("  " + err.Error())
			continue
		}
		return line, nil
	}
}

// agree asks a question that only a yes answers.
func (p *prompt) agree(question string) (bool, error) {
	answer, err := p.ask(question+" y/N", "", nil, func(string) error { return nil })
	return strings.EqualFold(answer, "y") || strings.EqualFold(answer, "yes"), err
}

// completeWord completes the word that ends at pos, as far as it is clear. Words
// end at spaces and commas; a colon is part of one in a principal's name, and ends
// the verbs of a rule.
func completeWord(line string, pos int, words []string) (string, int) {
	for _, ends := range []string{" ,", " ,:"} {
		start := strings.LastIndexAny(line[:pos], ends) + 1
		if common, found := commonPrefix(words, line[start:pos]); found {
			return line[:start] + common + line[pos:], start + len(common)
		}
	}
	return line, pos
}

// commonPrefix is what all words that begin with typed have in common.
func commonPrefix(words []string, typed string) (common string, found bool) {
	for _, word := range words {
		if !strings.HasPrefix(word, typed) {
			continue
		}
		if !found {
			common, found = word, true
			continue
		}
		for !strings.HasPrefix(word, common) {
			common = common[:len(common)-1]
		}
	}
	return common, found
}
