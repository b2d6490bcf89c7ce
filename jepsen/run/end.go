package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-io/holdfast/http/client"
	"github.com/holdfast-io/holdfast/jepsen/check"
	"github.com/holdfast-io/holdfast/jepsen/history"
	"github.com/holdfast-io/holdfast/jepsen/workload"
)

// endTime bounds what is asked at the end, judgeTime what real programs and checkers need.
const (
	endTime   = time.Minute
	judgeTime = 10 * time.Minute
)

// share is how much of the planned faults must have come for a run to count.
const share = 0.5

// last writes down what there is when all has healed: the hosts' lists, what the program says of the domain, and goroutines.
func (r *runner) last(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	var hosts []workload.Host
	for _, h := range r.run.Hosts {
		hosts = append(hosts, workload.Host{Name: h, Client: client.Config{Address: r.address(h)}})
	}
	mirrors, err := workload.Mirrors(ctx, hosts)
	if err != nil {
		return err
	}
	for _, h := range r.run.Hosts {
		list, _, err := r.pool.Client(h).Volumes(ctx, client.VolumeFilter{}, client.Read{})
		if err := errors.Join(err, r.save(check.VolumesFile(h), list)); err != nil {
			return fmt.Errorf("the last list of %s: %w", h, err)
		}
	}
	said, err := r.pool.Client(r.run.Hosts[0]).CheckDomain(ctx, r.run.Domain)
	if err := errors.Join(err, r.save(check.CheckFile, said)); err != nil {
		return fmt.Errorf("the domain check: %w", err)
	}
	if err := errors.Join(r.mailbox(ctx), r.fences(ctx)); err != nil {
		return err
	}
	r.after = r.settled(ctx, 15)
	return history.SaveFinal(r.folder, history.Final{Mirrors: mirrors}) // the LUN's list follows when the judges have read it
}

// mailbox writes down what hosts and SPM say to each other when nobody needs anything any more. What was under way a moment ago may
// take some steps yet; that nothing is left to do is the checker's to see.
func (r *runner) mailbox(ctx context.Context) error {
	for range 60 {
		m, err := r.pool.Client(r.run.Hosts[0]).Mailbox(ctx)
		if err := errors.Join(err, r.save(check.MailboxFile, m)); err != nil {
			return fmt.Errorf("the last look into the mailbox: %w", err)
		}
		if len(check.Unanswered(m)) == 0 || pause(ctx, 500*time.Millisecond) != nil {
			break
		}
	}
	return nil
}

// save writes a file of the record.
func (r *runner) save(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.folder, name), append(b, '\n'), 0o600)
}

// close ends hosts, LUN and record, in this order.
func (r *runner) close() (err error) {
	if r.pool != nil {
		err = r.pool.Close()
		err = errors.Join(err, r.exits())
	}
	if r.lun != nil {
		err = errors.Join(err, r.lun.Close())
	}
	counts := map[string]map[string]int{}
	for h, n := range r.before {
		counts[h] = map[string]int{"before": n, "after": r.after[h]}
	}
	err = errors.Join(err, r.save(check.GoroutinesFile, counts))
	if r.entries != nil {
		err = errors.Join(err, r.entries.Close(), r.ops.Close(), r.faults.Close(), r.samples.Close(), r.power.Close(), r.events.Close())
	}
	if err != nil {
		return fmt.Errorf("ending the run: %w", err)
	}
	return nil
}

// exits writes down the ends of agents. Each is a restart too: what an agent answers begins anew with it.
func (r *runner) exits() error {
	log, err := history.NewLog[any](r.folder, check.ExitsFile)
	if err != nil {
		return err
	}
	for _, e := range r.pool.Exits() {
		log.Add(e)
		if at := e.At.Sub(r.began); at < r.run.Lasted {
			r.faults.Add(history.Fault{Kind: history.Restart, Targets: []string{e.Host}, Begin: at, End: at, Detail: e.Reason})
		}
	}
	return log.Close()
}

// judge lets real programs look at the LUN, and the checkers at the record.
func (r *runner) judge(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, judgeTime)
	defer cancel()
	folder, err := filepath.Abs(r.folder)
	if err != nil {
		return err
	}
	j := check.Judges{LUN: r.lunFile(), Domain: r.run.Domain, Folder: folder, Hosts: r.hosts, Program: r.binary}
	if err := errors.Join(j.Run(ctx), r.fromLUN(), history.SaveRun(r.folder, r.run)); err != nil {
		return fmt.Errorf("judging the LUN: %w", err)
	}
	rec, err := check.Load(r.folder)
	if err != nil {
		return err
	}
	r.run.Verdicts = append(r.run.Verdicts, r.result.Verdict(share))
	for _, c := range check.Clients() {
		r.run.Verdicts = append(r.run.Verdicts, c(rec))
	}
	for _, c := range check.Storage() {
		r.run.Verdicts = append(r.run.Verdicts, c(rec))
	}
	return nil
}

// fromLUN completes the last lists with what lvm2 has found on the LUN.
func (r *runner) fromLUN() error {
	f, err := history.LoadFinal(r.folder)
	if err != nil || f == nil {
		return errors.Join(errors.New("there are no last lists"), err)
	}
	b, err := os.ReadFile(filepath.Join(r.folder, check.LVsFile))
	if err != nil {
		return err
	}
	var lvs []check.LV
	if err := json.Unmarshal(b, &lvs); err != nil {
		return err
	}
	f.LUN = nil
	for _, v := range lvs {
		if v.Slot() > 0 {
			f.LUN = append(f.LUN, history.VolumeRef{ID: v.Name})
		}
	}
	return history.SaveFinal(r.folder, *f)
}
