package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-io/holdfast/http/api"
)

// Exit statuses.
const (
	exitOK      = 0
	exitFailed  = 1
	exitUsage   = 2
	exitUnknown = 3
)

// usageError says that the command line cannot be right.
type usageError struct{ err error }

// Error implements error.
func (e usageError) Error() string { return e.err.Error() }

// Unwrap gives the cause.
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// errQuiet fails without a word, when the output has said it all.
var errQuiet = errors.New("failed")

// report prints an error for people and returns the exit status.
func report(cmd *cobra.Command, err error) int {
	if err == nil {
		return exitOK
	}
	w := cmd.ErrOrStderr()
	var usage usageError
	var e *api.Error
	var own statusError
	switch {
	case errors.As(err, &own):
		if own.err != nil {
			report(cmd, own.err)
		}
		return own.status
	case errors.Is(err, errQuiet):
		return exitFailed
	case errors.As(err, &usage) || isCobraUsage(err):
		fmt.Fprintf(w, "holdfast: %v\nSee %s --help.\n", err, cmd.CommandPath())
		return exitUsage
	case errors.As(err, &e):
		printError(w, e)
		if e.Unknown() {
			return exitUnknown
		}
		return exitFailed
	case errors.Is(err, context.Canceled):
		return exitFailed
	}
	fmt.Fprintf(w, "holdfast: %v\n", err)
	return exitFailed
}

// isCobraUsage recognises complaints that cobra makes before any hook of ours and gives no type of their own.
func isCobraUsage(err error) bool {
	s := err.Error()
	return strings.HasPrefix(s, "unknown command ") || strings.HasPrefix(s, "required flag(s) ")
}

// printError shows what happened, who has what is needed, and what to do.
func printError(w io.Writer, e *api.Error) {
	fmt.Fprintf(w, "holdfast: %s (%s)\n", e.Message, e.Code)
	if e.Unknown() {
		fmt.Fprintln(w, "  outcome:   unknown, it may have happened")
	}
	if e.Holder != "" {
		fmt.Fprintf(w, "  holder:    %s\n", e.Holder)
	}
	if e.Epoch != 0 {
		fmt.Fprintf(w, "  epoch:     %d\n", e.Epoch)
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(w, "  retry in:  %s\n", e.RetryAfter)
	}
	if e.NextStep != "" {
		fmt.Fprintf(w, "  next step: %s\n", e.NextStep)
	}
	if e.RequestID != "" && e.Code == api.CodeInternal {
		fmt.Fprintf(w, "  request:   %s\n", e.RequestID)
	}
}
