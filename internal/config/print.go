package config

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// wrapColumn is the width of the printed comments.
const wrapColumn = 100

// Print writes c as a YAML file with each key's documentation above it. Print of Default is the documented default
// file.
func Print(c Agent) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString("# Configuration of a Holdfast agent. Values are the defaults; unknown keys are refused.\n")
	if err := printStruct(&b, reflect.ValueOf(c), ""); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func printStruct(b *bytes.Buffer, v reflect.Value, indent string) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		if indent == "" {
			b.WriteByte('\n')
		}
		comment(b, indent, f.Tag.Get("doc"))
		key := indent + f.Tag.Get("yaml") + ":"
		if f.Type.Kind() == reflect.Struct {
			fmt.Fprintln(b, key)
			if err := printStruct(b, v.Field(i), indent+"  "); err != nil {
				return err
			}
			continue
		}
		if err := printValue(b, key, v.Field(i).Interface()); err != nil {
			return err
		}
	}
	return nil
}

func printValue(b *bytes.Buffer, key string, value any) error {
	out, err := yaml.Marshal(value)
	if err != nil {
		return fmt.Errorf("printing %s %w", key, err)
	}
	text := strings.TrimSuffix(string(out), "\n")
	if list, ok := value.([]string); ok && len(list) > 0 {
		text = "\n  " + strings.ReplaceAll(text, "\n", "\n  ")
		fmt.Fprintf(b, "%s%s\n", key, text)
		return nil
	}
	fmt.Fprintf(b, "%s %s\n", key, text)
	return nil
}

// comment wraps a text into comment lines.
func comment(b *bytes.Buffer, indent, text string) {
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(indent)+len(line)+len(word)+3 > wrapColumn {
			fmt.Fprintf(b, "%s# %s\n", indent, line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	if line != "" {
		fmt.Fprintf(b, "%s# %s\n", indent, line)
	}
}
