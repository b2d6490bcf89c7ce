package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/holdfast-io/holdfast/http/api"
)

var (
	refusalLine = regexp.MustCompile(`(?s)^holdfast: (.*) \(([a-z_]+)\)\n`)
	nextStep    = regexp.MustCompile(`(?m)^  next step: (.+)$`)
)

// parseRefusal takes an error apart that the program printed.
func parseRefusal(stderr string) (*api.Error, error) {
	m := refusalLine.FindStringSubmatch(stderr)
	if m == nil {
		return &api.Error{Message: stderr}, fmt.Errorf("%q is not an error with a code", stderr)
	}
	e := &api.Error{Message: m[1], Code: m[2]}
	if n := nextStep.FindStringSubmatch(stderr); n != nil {
		e.NextStep = n[1]
	}
	return e, nil
}

func TestParseRefusal(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	printError(&b, &api.Error{Code: api.CodeBusy, Message: "it is busy (now)", Holder: "h1", NextStep: "wait"})
	e, err := parseRefusal(b.String())
	if err != nil || e.Code != api.CodeBusy || e.Message != "it is busy (now)" || e.NextStep != "wait" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := parseRefusal("holdfast: it is busy\n"); err == nil {
		t.Error("an error without a code was taken for one with a code")
	}
}
