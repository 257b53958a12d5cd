package main

import (
	"io"
	"log/slog"
)

// verbosity is a parsed log level.
type verbosity struct {
	level slog.Level
	known bool
}

func level(name string) verbosity {
	v, known := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}[name]
	return verbosity{v, known}
}

func newLogger(w io.Writer, c Log) *slog.Logger {
	options := &slog.HandlerOptions{Level: level(c.Level).level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
