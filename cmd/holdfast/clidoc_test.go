package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// cliPage is docs/CLI.md cut into the sections of its verbs, by the verb's whole path.
func cliPage(t *testing.T) (sections map[string]string, page string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "CLI.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections = map[string]string{}
	for _, part := range strings.Split(string(b), "\n### ")[1:] {
		head, body, _ := strings.Cut(part, "\n")
		body, _, _ = strings.Cut(body, "\n## ")
		sections[strings.Trim(head, "`")] = body
	}
	return sections, string(b)
}

// undocumented compares the program with its page, both ways.
func undocumented(root *cobra.Command, sections map[string]string) []string {
	var wrong []string
	known := map[string]bool{}
	for _, c := range verbsOf(root) {
		path := c.CommandPath()
		known[path] = true
		body, ok := sections[path]
		if !ok {
			wrong = append(wrong, path+" has no section")
			continue
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(body, "`--"+f.Name) {
				wrong = append(wrong, path+" does not name --"+f.Name)
			}
		})
	}
	for path := range sections {
		if !known[path] {
			wrong = append(wrong, path+" is described and does not exist")
		}
	}
	return wrong
}

// verbsOf lists what a person can run: the leaves of the tree, and completion as a whole.
func verbsOf(c *cobra.Command) []*cobra.Command {
	if c.Name() == "completion" || !c.HasAvailableSubCommands() {
		return []*cobra.Command{c}
	}
	var l []*cobra.Command
	for _, s := range c.Commands() {
		if s.IsAvailableCommand() {
			l = append(l, verbsOf(s)...)
		}
	}
	return l
}

func TestCLI_everyVerbIsInDocs(t *testing.T) {
	t.Parallel()
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	sections, page := cliPage(t)
	for _, w := range undocumented(root, sections) {
		t.Error("docs/CLI.md: " + w)
	}
	root.PersistentFlags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(page, "`--"+f.Name) {
			t.Errorf("docs/CLI.md does not name --%s", f.Name)
		}
	})
}

func TestCLI_everyVerbIsInDocs_findsWhatIsMissing(t *testing.T) {
	t.Parallel()
	root := newRootCommand()
	root.InitDefaultCompletionCmd()
	sections, _ := cliPage(t)
	delete(sections, "holdfast volume delete")
	sections["holdfast volume polish"] = ""
	sections["holdfast spm move"] = strings.ReplaceAll(sections["holdfast spm move"], "--reason", "")
	if got := undocumented(root, sections); len(got) != 3 {
		t.Errorf("found %q, three things are wrong", got)
	}
}
