package check

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// layout is what lies where, as lvm2 says: the label and the metadata areas by pvck, the special volumes by lvs.
func (j *Judges) layout(ctx context.Context, lvs []LV) (Layout, error) {
	l := Layout{VG: j.Domain}
	headers, err := j.run(ctx, "pvck", "--dump", "headers", j.LUN)
	if err != nil {
		return l, err
	}
	if l.Areas, err = parseHeaders(headers); err != nil {
		return l, err
	}
	for _, v := range lvs {
		if slices.Contains(specialLVs, v.Name) {
			l.Areas = append(l.Areas, v.Segments...)
		}
	}
	if len(lvs) == 0 {
		return l, errors.New("lvs listed nothing, so the special volumes' places are not known")
	}
	for area := range 2 {
		found, err := j.run(ctx, "pvck", "--dump", "metadata_search", "--settings", fmt.Sprintf("mda_num=%d", area+1), j.LUN)
		if err != nil {
			return l, err
		}
		texts, err := parseTexts(found, j.Domain)
		if err != nil {
			return l, err
		}
		l.Texts = append(l.Texts, texts...)
	}
	return l, nil
}

var (
	headerLine = regexp.MustCompile(`(?m)^\s*mda_header_(\d)\.(start|size) (\d+)$`)
	textLine   = regexp.MustCompile(`(?m)^\s*metadata at \d+ length (\d+) crc ([0-9a-f]+) vg (\S+) seqno (\d+) `)
)

// parseHeaders reads the places of the metadata areas. The label is all that lies before the first.
func parseHeaders(out string) ([]Area, error) {
	at := map[string]*Area{}
	for _, m := range headerLine.FindAllStringSubmatch(out, -1) {
		a := at[m[1]]
		if a == nil {
			a = &Area{Name: areaMDA}
			at[m[1]] = a
		}
		n, err := strconv.ParseInt(m[3], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading %q of pvck: %w", m[0], err)
		}
		if m[2] == "start" {
			a.Off = n
		} else {
			a.Len = n
		}
	}
	first := at["1"]
	if first == nil || first.Off == 0 || first.Len == 0 {
		return nil, fmt.Errorf("pvck shows no metadata area:\n%s", out)
	}
	areas := []Area{{Name: areaLabel, Len: first.Off}, *first}
	if second := at["2"]; second != nil {
		areas = append(areas, *second)
	}
	return areas, nil
}

// parseTexts reads what pvck found in a ring.
func parseTexts(out, vg string) ([]Text, error) {
	var all []Text
	for _, m := range textLine.FindAllStringSubmatch(out, -1) {
		if m[3] != vg {
			continue // of a group that the LUN held before
		}
		size, err1 := strconv.ParseInt(m[1], 10, 64)
		sum, err2 := strconv.ParseUint(m[2], 16, 32)
		seqno, err3 := strconv.ParseUint(m[4], 10, 64)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("reading %q of pvck: %w", m[0], err)
		}
		all = append(all, Text{Size: size, Sum: uint32(sum), Seqno: seqno})
	}
	return all, nil
}
