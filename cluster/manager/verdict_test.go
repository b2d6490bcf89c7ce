package manager

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-io/holdfast/fsm"
	"github.com/holdfast-io/holdfast/leases"
)

var testDomainPolicy = DefaultDomainPolicy(leases.Fast) // 15 s

// Views of hosts that are up.
func sees(host string, looks int) DomainView {
	return DomainView{Host: host, Counts: true, Sees: true, Known: true, Looks: looks, Code: DomainOK}
}

func fails(host string, bad time.Duration) DomainView {
	return DomainView{Host: host, Counts: true, Sees: true, Known: true, Bad: bad, Code: DomainHung}
}

// unjoined reads the domain and has not joined its lockspace.
func unjoined(host string, bad time.Duration) DomainView {
	w := fails(host, bad)
	w.Code = DomainUnjoined
	return w
}

// ill is a host that answers and is not up.
func ill(w DomainView) DomainView { w.Counts = false; return w }

// mute is a host that has not looked yet; aside one in maintenance.
func mute(host string) DomainView { return DomainView{Host: host, Counts: true, Sees: true} }

func aside(w DomainView) DomainView { w.Counts, w.Sees = false, false; return w }

func domainInput(status string, views ...DomainView) DomainInput {
	in := DomainInput{ID: "d", Name: "san2", Status: status, Views: views, TermAge: time.Hour, Policy: testDomainPolicy}
	for _, w := range views {
		if w.Counts {
			in.Up++
		}
	}
	return in
}

func TestJudgeDomain(t *testing.T) {
	t.Parallel()
	const long, short = 15 * time.Second, 14 * time.Second
	for name, tc := range map[string]struct {
		in      DomainInput
		status  string
		failing string
		next    time.Duration
		reason  string
	}{
		"all see it":                         {domainInput(fsm.DomainActive, sees("h1", 9), sees("h2", 9)), fsm.DomainActive, "", 0, ""},
		"one fails":                          {domainInput(fsm.DomainActive, sees("h1", 9), fails("h2", short)), fsm.DomainActive, "h2", time.Second, "some hosts cannot reach it: h2: a LUN does not answer"},
		"one fails for a moment":             {domainInput(fsm.DomainActive, sees("h1", 9), fails("h2", 3*time.Second)), fsm.DomainActive, "", 0, ""},
		"one fails for long":                 {domainInput(fsm.DomainActive, sees("h1", 9), fails("h2", time.Hour)), fsm.DomainActive, "h2", 0, "h2"},
		"one sees it for the first time":     {domainInput(fsm.DomainActive, sees("h1", 1), fails("h2", time.Hour)), fsm.DomainActive, "h2", 0, "h2"},
		"all fail, one not for long":         {domainInput(fsm.DomainActive, fails("h1", long), fails("h2", short)), fsm.DomainActive, "h1 h2", time.Second, "no host that is up reaches it now"},
		"all fail for long":                  {domainInput(fsm.DomainActive, fails("h1", long), fails("h2", long)), fsm.DomainInactive, "h1 h2", 0, "no host that is up can reach it"},
		"a lone host fails for long":         {domainInput(fsm.DomainActive, fails("h1", long)), fsm.DomainInactive, "h1", 0, ""},
		"those that are up fail":             {domainInput(fsm.DomainActive, fails("h1", long), ill(sees("h2", 9))), fsm.DomainActive, "h1", 0, "some hosts cannot reach it: h1"},
		"those that are up fail, one peeks":  {domainInput(fsm.DomainActive, fails("h1", long), ill(sees("h2", 1))), fsm.DomainInactive, "h1", 0, ""},
		"nobody is up, and one reaches it":   {domainInput(fsm.DomainActive, ill(fails("h1", long)), ill(sees("h2", 9))), fsm.DomainActive, "h1", 0, ""},
		"only one that is not up fails":      {domainInput(fsm.DomainActive, sees("h1", 9), ill(fails("h2", long))), fsm.DomainActive, "h2", 0, ""},
		"one in maintenance fails":           {domainInput(fsm.DomainActive, sees("h1", 9), aside(fails("h2", long))), fsm.DomainActive, "", 0, ""},
		"one has not looked yet":             {domainInput(fsm.DomainActive, fails("h1", long), mute("h2")), fsm.DomainInactive, "h1", 0, ""},
		"nobody is up":                       {domainInput(fsm.DomainActive, ill(fails("h1", long))), fsm.DomainUnknown, "", 0, "no host that is up reports on it"},
		"nobody answers":                     {domainInput(fsm.DomainActive), fsm.DomainUnknown, "", 0, ""},
		"nobody has looked yet":              {domainInput(fsm.DomainActive, mute("h1")), fsm.DomainUnknown, "", 0, ""},
		"a young leader has heard nobody":    {young(domainInput(fsm.DomainActive, mute("h1"))), fsm.DomainActive, "", 0, ""},
		"a young leader and nobody is up":    {young(domainInput(fsm.DomainActive, ill(mute("h1")))), fsm.DomainUnknown, "", 0, ""},
		"back: two hosts":                    {domainInput(fsm.DomainInactive, sees("h1", 1), sees("h2", 1), fails("h3", long)), fsm.DomainActive, "h3", 0, "hosts reach it; some cannot: h3"},
		"back: not with one host":            {domainInput(fsm.DomainInactive, sees("h1", 2), fails("h2", long)), fsm.DomainInactive, "h2", 0, ""},
		"back: three looks of one":           {domainInput(fsm.DomainInactive, sees("h1", 3), fails("h2", long)), fsm.DomainActive, "h2", 0, ""},
		"back: hosts that are not up":        {domainInput(fsm.DomainInactive, ill(sees("h1", 1)), ill(sees("h2", 1)), fails("h3", long)), fsm.DomainActive, "h3", 0, ""},
		"back: never by one in maintenance":  {domainInput(fsm.DomainInactive, aside(sees("h1", 9)), fails("h2", long)), fsm.DomainInactive, "h2", 0, ""},
		"inactive, and nobody is up":         {domainInput(fsm.DomainInactive, ill(fails("h1", long))), fsm.DomainUnknown, "", 0, ""},
		"unknown, and it is back":            {domainInput(fsm.DomainUnknown, sees("h1", 3)), fsm.DomainActive, "", 0, ""},
		"unknown, and all fail":              {domainInput(fsm.DomainUnknown, fails("h1", long)), fsm.DomainInactive, "h1", 0, ""},
		"unknown stays":                      {domainInput(fsm.DomainUnknown, fails("h1", short)), fsm.DomainUnknown, "h1", 0, ""},
		"activating: two hosts":              {domainInput(fsm.DomainActivating, sees("h1", 1), sees("h2", 1)), fsm.DomainActive, "", 0, ""},
		"activating waits":                   {domainInput(fsm.DomainActivating, sees("h1", 1), fails("h2", short)), fsm.DomainActivating, "h2", 0, "waits for hosts to reach it: h2"},
		"activating fails":                   {domainInput(fsm.DomainActivating, fails("h1", long), fails("h2", long)), fsm.DomainInactive, "h1 h2", 0, ""},
		"preparing is not judged":            {domainInput(fsm.DomainPreparing, fails("h1", time.Hour)), fsm.DomainPreparing, "", 0, ""},
		"maintenance is not judged":          {domainInput(fsm.DomainMaintenance, sees("h1", 9), sees("h2", 9)), fsm.DomainMaintenance, "", 0, ""},
		"many hosts are not all quoted":      {domainInput(fsm.DomainActive, sees("h0", 9), fails("h1", short), fails("h2", short), fails("h3", short), fails("h4", short), fails("h5", short)), fsm.DomainActive, "h1 h2 h3 h4 h5", time.Second, "and 2 more hosts"},
		"joining takes a while":              {domainInput(fsm.DomainActive, unjoined("h1", 80*time.Second)), fsm.DomainActive, "h1", 7 * time.Second, "not held in the lockspace"},
		"joining takes too long":             {domainInput(fsm.DomainActive, unjoined("h1", 87*time.Second)), fsm.DomainInactive, "h1", 0, ""},
		"some join, some hang":               {domainInput(fsm.DomainActive, unjoined("h1", 20*time.Second), fails("h2", long)), fsm.DomainActive, "h1 h2", 67 * time.Second, ""},
		"a look that is too old is no proof": {domainInput(fsm.DomainActive, DomainView{Host: "h1", Counts: true, Sees: true, Known: true, Bad: long, Code: DomainOK}), fsm.DomainInactive, "h1", 0, "too old"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := JudgeDomain(tc.in)
			if v.Status != tc.status || strings.Join(v.Failing, " ") != tc.failing || v.In != tc.next || !strings.Contains(v.Reason, tc.reason) {
				t.Errorf("%+v, want %s, failing %q, in %v, because %q", v, tc.status, tc.failing, tc.next, tc.reason)
			}
			if err := soundVerdict(tc.in, v); err != nil {
				t.Error(err)
			}
		})
	}
}

func young(in DomainInput) DomainInput { in.TermAge = time.Second; return in }

// soundVerdict holds a verdict against what must never be, knowing nothing of how it came about.
func soundVerdict(in DomainInput, v DomainVerdict) error {
	var counting, failingLong, reaching, looks int
	for _, w := range in.Views {
		if w.Counts && w.Known {
			counting++
			if limit := in.Policy.Failure; w.Bad >= limit && (w.Code != DomainUnjoined || w.Bad >= limit+in.Policy.Join) {
				failingLong++
			}
		}
		if w.Sees && w.Known && w.Bad == 0 && w.Looks > 0 {
			reaching, looks = reaching+1, max(looks, w.Looks)
		}
		if listed := slices.Contains(v.Failing, w.Host); listed && (w.Bad == 0 || !w.Sees) {
			return fmt.Errorf("%s is said to fail", w.Host)
		}
	}
	moved := v.Status != in.Status
	switch {
	case in.Status == fsm.DomainPreparing || in.Status == fsm.DomainMaintenance:
		if moved {
			return errors.New("a domain that a person takes out of use was judged")
		}
	case v.Status == fsm.DomainInactive && moved:
		if counting == 0 || failingLong < counting {
			return fmt.Errorf("inactive although %d of %d hosts that count do not fail for long", counting-failingLong, counting)
		}
	case v.Status == fsm.DomainActive && moved:
		if reaching < 2 && looks < 3 {
			return fmt.Errorf("active by %d hosts with %d looks", reaching, looks)
		}
	case v.Status == fsm.DomainUnknown && moved:
		if counting > 0 {
			return fmt.Errorf("unknown although %d hosts report", counting)
		}
	case v.Status == fsm.DomainActive && (reaching >= 2 || looks >= 3): // whoever reaches it
	case v.Status == fsm.DomainActive && counting == 0 && in.TermAge > in.Policy.ReportAge:
		return errors.New("active although nobody reports")
	case v.Status == fsm.DomainInactive && (reaching >= 2 || looks >= 3):
		return errors.New("inactive although it is reached")
	case v.Status == fsm.DomainActive && counting > 0 && failingLong == counting:
		return errors.New("active although nobody has reached it for long")
	}
	return nil
}

// randomInput makes a picture with few values, so that their combinations meet.
func randomInput(r *rand.Rand) DomainInput {
	statuses := []string{fsm.DomainActive, fsm.DomainActive, fsm.DomainInactive, fsm.DomainUnknown, fsm.DomainActivating, fsm.DomainPreparing, fsm.DomainMaintenance}
	var views []DomainView
	for i := range r.IntN(5) {
		w := DomainView{Host: fmt.Sprintf("h%d", i), Counts: r.IntN(4) > 0, Sees: true, Known: r.IntN(5) > 0}
		if w.Known && r.IntN(2) == 0 {
			w.Bad, w.Code = time.Duration(1+r.IntN(20))*time.Second, DomainHung
			if r.IntN(3) == 0 {
				w.Bad, w.Code = time.Duration(1+r.IntN(120))*time.Second, DomainUnjoined
			}
		} else if w.Known {
			w.Looks, w.Code = 1+r.IntN(4), DomainOK
		}
		if r.IntN(6) == 0 {
			w = aside(w)
		}
		views = append(views, w)
	}
	in := domainInput(statuses[r.IntN(len(statuses))], views...)
	in.TermAge = time.Duration(r.IntN(60)) * time.Second
	return in
}

func TestJudgeDomain_soundOnRandomPictures(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(6, 5))
	for range 20000 {
		in := randomInput(r)
		if err := soundVerdict(in, JudgeDomain(in)); err != nil {
			t.Fatalf("%v: %+v gives %+v", err, in, JudgeDomain(in))
		}
	}
}

// Planted mistakes in the judgement are caught by soundVerdict.
func TestSoundVerdict_catchesPlantedMistakes(t *testing.T) {
	t.Parallel()
	without := func(in DomainInput, keep func(DomainView) bool) DomainInput {
		in.Views = slices.DeleteFunc(slices.Clone(in.Views), func(w DomainView) bool { return !keep(w) })
		return in
	}
	for name, judge := range map[string]func(DomainInput) DomainVerdict{
		"from the first host alone": func(in DomainInput) DomainVerdict {
			in.Views = in.Views[:min(len(in.Views), 1)]
			return JudgeDomain(in)
		},
		"one that fails is enough": func(in DomainInput) DomainVerdict {
			return JudgeDomain(without(in, func(w DomainView) bool { return w.Bad > 0 }))
		},
		"no time-out":      func(in DomainInput) DomainVerdict { in.Policy.Failure = 1; return JudgeDomain(in) },
		"back at one look": func(in DomainInput) DomainVerdict { in.Policy.ValidLooks = 1; return JudgeDomain(in) },
		"never back": func(in DomainInput) DomainVerdict {
			in.Policy.ValidLooks, in.Policy.ValidHosts = 100, 100
			return JudgeDomain(in)
		},
		"no time to join":   func(in DomainInput) DomainVerdict { in.Policy.Join = 0; return JudgeDomain(in) },
		"never inactive":    func(in DomainInput) DomainVerdict { in.Policy.Failure = time.Hour; return JudgeDomain(in) },
		"an operator's too": func(in DomainInput) DomainVerdict { in.Status = fsm.DomainInactive; return JudgeDomain(in) },
		"hosts that are not up count": func(in DomainInput) DomainVerdict {
			in.Views = slices.Clone(in.Views)
			for i := range in.Views {
				in.Views[i].Counts = true
			}
			return JudgeDomain(in)
		},
		"silence is inactive": func(in DomainInput) DomainVerdict {
			v := JudgeDomain(in)
			if v.Status == fsm.DomainUnknown {
				v.Status = fsm.DomainInactive
			}
			return v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(6, 5))
			for range 20000 {
				if in := randomInput(r); soundVerdict(in, judge(in)) != nil {
					return
				}
			}
			t.Error("not caught")
		})
	}
}

func TestDomainSeen_take(t *testing.T) {
	t.Parallel()
	at := func(s int) time.Time { return time.Unix(1000+int64(s), 0) }
	ok := func(n uint64) DomainReport { return DomainReport{Code: DomainOK, Looks: n, Age: time.Second} }
	bad := func(n uint64) DomainReport { return DomainReport{Code: DomainHung, Looks: n} }
	var d domainSeen
	if d = d.take(DomainReport{Code: DomainUnread}, at(0)); !d.lookedAt.IsZero() {
		t.Errorf("a monitor that has not looked says something: %+v", d)
	}
	d = d.take(ok(1), at(1)).take(ok(1), at(2)).take(ok(1), at(3))
	if d.goodLooks != 1 || !d.lookedAt.Equal(at(0)) {
		t.Errorf("one look that was told three times counts %d times, ended at %v", d.goodLooks, d.lookedAt)
	}
	d = d.take(ok(2), at(4)).take(bad(3), at(5)).take(bad(4), at(9))
	if d.goodLooks != 0 || !d.badSince.Equal(at(5)) {
		t.Errorf("%+v", d)
	}
	if d = d.take(ok(5), at(10)); d.goodLooks != 1 || !d.badSince.IsZero() {
		t.Errorf("%+v", d)
	}
	if d = d.take(bad(1), at(11)); d.badSince.IsZero() {
		t.Errorf("a monitor that was started anew is not believed: %+v", d)
	}
}

func TestStorageTrouble(t *testing.T) {
	t.Parallel()
	const long, short = 15 * time.Second, time.Second
	active := func(views ...DomainView) DomainInput { return domainInput(fsm.DomainActive, views...) }
	for name, tc := range map[string]struct {
		domains []DomainInput
		down    []string
		want    string // host:domains:over
	}{
		"nobody":                             {[]DomainInput{active(sees("h1", 1), sees("h2", 1))}, nil, ""},
		"one that others are better off":     {[]DomainInput{active(sees("h1", 1), fails("h2", short))}, nil, "h2:1:false"},
		"joining takes a while":              {[]DomainInput{active(sees("h1", 1), unjoined("h2", 80*time.Second))}, nil, "h2:1:false"},
		"for long":                           {[]DomainInput{active(sees("h1", 1), fails("h2", long))}, nil, "h2:1:true"},
		"nobody reaches it":                  {[]DomainInput{active(fails("h1", long), fails("h2", long))}, nil, ""},
		"a lone host":                        {[]DomainInput{active(fails("h1", long))}, nil, ""},
		"only one that is not up reaches it": {[]DomainInput{active(ill(sees("h1", 9)), fails("h2", long))}, nil, ""},
		"not of an inactive domain":          {[]DomainInput{domainInput(fsm.DomainInactive, sees("h1", 1), fails("h2", long))}, nil, ""},
		"not of one in maintenance":          {[]DomainInput{domainInput(fsm.DomainMaintenance, sees("h1", 1), fails("h2", long))}, nil, ""},
		"two domains":                        {[]DomainInput{active(sees("h1", 1), fails("h2", short)), active(sees("h1", 1), fails("h2", long))}, nil, "h2:2:true"},
		"two hosts":                          {[]DomainInput{active(sees("h1", 1), fails("h2", long), fails("h3", short))}, nil, "h2:1:true h3:1:false"},
		"one that was down gets better slowly": {[]DomainInput{active(sees("h1", 9), ill(sees("h2", 2)))}, []string{"h2"},
			"h2:1:false"},
		"one that was down is better":            {[]DomainInput{active(sees("h1", 9), ill(sees("h2", 3)))}, []string{"h2"}, ""},
		"one that was down stays so with others": {[]DomainInput{active(fails("h1", short), ill(fails("h2", long)))}, []string{"h2"}, "h2:1:true"},
		"one that has not looked":                {[]DomainInput{active(sees("h1", 9), mute("h2"))}, []string{"h2"}, ""},
		"one in maintenance":                     {[]DomainInput{active(sees("h1", 9), aside(fails("h2", long)))}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := StorageInput{Domains: tc.domains, Down: map[string]bool{}, Policy: testDomainPolicy}
			for _, h := range tc.down {
				in.Down[h] = true
			}
			var got []string
			for h, tr := range storageTrouble(in) {
				got = append(got, fmt.Sprintf("%s:%d:%v", h, len(tr.Domains), tr.Over))
				if !strings.Contains(tr.Reason, "san2") {
					t.Errorf("the reason %q names no domain", tr.Reason)
				}
			}
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("%q, want %q", s, tc.want)
			}
		})
	}
}

func TestJudgeRelease(t *testing.T) {
	t.Parallel()
	free := ReleaseView{Host: "h1", Answers: true, Known: true}
	for name, tc := range map[string]struct {
		views []ReleaseView
		done  bool
		used  string
		wait  string
	}{
		"all let go":             {[]ReleaseView{free, {Host: "h2", Gone: true}}, true, "", ""},
		"one has it open":        {[]ReleaseView{free, {Host: "h2", Answers: true, Known: true, Open: true}}, false, "", "h2 has not let go of the domain yet"},
		"one is silent":          {[]ReleaseView{free, {Host: "h2"}}, false, "", "h2 does not answer, so whether it uses the domain is not known"},
		"one does not know yet":  {[]ReleaseView{free, {Host: "h2", Answers: true}}, false, "", "h2 has not said yet whether it uses the domain"},
		"old news says nothing":  {[]ReleaseView{{Host: "h2", Answers: true, Uses: []string{"volume a"}}}, false, "", "h2 has not said yet whether it uses the domain"},
		"in use":                 {[]ReleaseView{free, {Host: "h2", Answers: true, Known: true, Open: true, Uses: []string{"volume a", "lease b"}}}, false, "volume a on h2; lease b on h2", ""},
		"in use, and one silent": {[]ReleaseView{{Host: "h1"}, {Host: "h2", Answers: true, Known: true, Uses: []string{"volume a"}}}, false, "volume a on h2", "h1 does not answer, so whether it uses the domain is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := JudgeRelease(tc.views)
			if r.Done != tc.done || strings.Join(r.Used, "; ") != tc.used || strings.Join(r.Wait, "; ") != tc.wait {
				t.Errorf("%+v", r)
			}
		})
	}
}

func TestDomainPolicy_next(t *testing.T) {
	t.Parallel()
	p := DefaultDomainPolicy(leases.Compatible)
	for n, want := range map[int]time.Duration{0: 10 * time.Second, 1: 20 * time.Second, 4: 160 * time.Second, 5: 5 * time.Minute, 99: 5 * time.Minute} {
		for range 50 {
			if got := p.next(n); got > want || got < want*3/4-1 {
				t.Fatalf("attempt %d after %v, want up to %v", n, got, want)
			}
		}
	}
}

// everyDomain yields every picture of a domain that two hosts can give.
func everyDomain(yield func(in DomainInput)) {
	p := DefaultDomainPolicy(leases.Fast)
	var views []DomainView
	for _, role := range [][2]bool{{true, true}, {false, true}, {false, false}} {
		views = append(views, DomainView{Counts: role[0], Sees: role[1]})
		for _, bad := range []time.Duration{time.Millisecond, p.Notice, p.Failure + p.Join} {
			views = append(views, DomainView{Counts: role[0], Sees: role[1], Known: true, Bad: bad, Code: DomainHung})
		}
		for _, looks := range []int{1, p.ValidLooks} {
			views = append(views, DomainView{Counts: role[0], Sees: role[1], Known: true, Looks: looks, Code: DomainOK})
		}
	}
	for _, a := range views {
		for _, b := range views {
			for _, status := range []string{fsm.DomainActive, fsm.DomainInactive, fsm.DomainUnknown, fsm.DomainActivating, fsm.DomainPreparing, fsm.DomainMaintenance} {
				for _, silent := range []int{0, 1} { // further hosts that are up and do not answer
					in := DomainInput{ID: "d", Status: status, Views: []DomainView{a, b}, TermAge: time.Hour, Policy: p, Up: silent}
					in.Views[0].Host, in.Views[1].Host = "a", "b"
					for _, w := range in.Views {
						if w.Counts {
							in.Up++
						}
					}
					yield(in)
				}
			}
		}
	}
}

// restless says of a judge that changes its mind although nothing has happened; each change is recorded and told.
func restless(judge func(DomainInput) DomainVerdict) (found []string) {
	everyDomain(func(in DomainInput) {
		first := in.Status
		in.Status = judge(in).Status
		second := in.Status
		in.Status = judge(in).Status
		if third := judge(in).Status; third != in.Status {
			found = append(found, fmt.Sprintf("%s, %s, %s, %s: %+v", first, second, in.Status, third, in.Views))
		}
	})
	return found
}

func TestJudgeDomain_comesToRest(t *testing.T) {
	t.Parallel()
	for _, f := range restless(JudgeDomain) {
		t.Error(f)
	}
	if len(restless(func(in DomainInput) DomainVerdict { // planted: whoever is up is all that counts
		if in.Status == fsm.DomainActive && in.Up == 0 {
			return DomainVerdict{Status: fsm.DomainUnknown}
		}
		return JudgeDomain(in)
	})) == 0 {
		t.Error("a judge that goes back and forth was not noticed")
	}
}
