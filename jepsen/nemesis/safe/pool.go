package safe

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-io/holdfast/http/api"
	"github.com/holdfast-io/holdfast/http/client"
)

// pool asks a pool, and whichever of its hosts answers counts.
type pool struct {
	clients []*client.Client
	prefix  string // of the names of volumes that this run makes
	unsure  []int  // the volumes that may have been made or may still be; only create and then sweep use it
}

const (
	// tryTime bounds one host's answer, so that a dead one does not look like a dead pool.
	tryTime = 2 * time.Second
	// moveTime bounds a change of roles.
	moveTime = 30 * time.Second
	// volumeSize is small: the volumes are deleted at once.
	volumeSize = 128 << 20
)

// any asks one host after another. An answer that says no is an answer, but another host may know better.
func (p *pool) any(ctx context.Context, each time.Duration, ask func(context.Context, *client.Client) error) error {
	var errs []error
	for _, c := range p.clients {
		err := func() error {
			ctx, cancel := context.WithTimeout(ctx, each)
			defer cancel()
			return ask(ctx, c)
		}()
		if err == nil || ctx.Err() != nil {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (p *pool) status(ctx context.Context) (s api.Status, err error) {
	err = p.any(ctx, tryTime, func(ctx context.Context, c *client.Client) (err error) {
		s, _, err = c.Status(ctx, client.Read{})
		return err
	})
	return s, err
}

// read is what a user does who looks for a volume.
func (p *pool) read(ctx context.Context) error {
	return p.any(ctx, tryTime, func(ctx context.Context, c *client.Client) error {
		_, _, err := c.Volumes(ctx, client.VolumeFilter{Name: p.prefix}, client.Read{})
		return err
	})
}

// create makes a volume. The name is the key too, so another host may be asked when one does not answer.
func (p *pool) create(ctx context.Context, n int) (id string, err error) {
	name, unsure := fmt.Sprintf("%s%d", p.prefix, n), false
	err = p.any(ctx, tryTime, func(ctx context.Context, c *client.Client) error {
		v, err := c.CreateVolume(ctx, api.VolumeCreate{Name: name, Size: volumeSize}, name)
		id, unsure = v.ID, unsure || !surelyNot(err)
		return err
	})
	if err != nil && unsure {
		p.unsure = append(p.unsure, n)
	}
	return id, err
}

// surelyNot says that an answer came, and that it is no.
func surelyNot(err error) bool {
	var e *api.Error
	return errors.As(err, &e) && !e.Unknown()
}

func (p *pool) remove(ctx context.Context, id string) error {
	return p.any(ctx, 5*tryTime, func(ctx context.Context, c *client.Client) error {
		_, err := c.DeleteVolume(ctx, id)
		var e *api.Error
		if errors.As(err, &e) && e.Code == api.CodeNotFound {
			return nil
		}
		return err
	})
}

// sweep deletes what the run has made and not deleted. A list alone would not do: what was asked for when the run ended may be
// under way still.
func (p *pool) sweep(ctx context.Context) error {
	errs := []error{p.settle(ctx)}
	var all []api.Volume
	errs = append(errs, p.any(ctx, 5*tryTime, func(ctx context.Context, c *client.Client) (err error) {
		all, _, err = c.Volumes(ctx, client.VolumeFilter{}, client.Read{Consistent: true})
		return err
	}))
	for _, v := range all {
		if strings.HasPrefix(v.Name, p.prefix) {
			errs = append(errs, p.remove(ctx, v.ID))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("deleting the volumes whose names begin with %s: %w; delete them by hand", p.prefix, err)
	}
	return nil
}

// settle asks again for every volume that may have been made. The same key makes no second one, and with the answer nothing of it
// is under way any more.
func (p *pool) settle(ctx context.Context) error {
	unsure := p.unsure
	p.unsure = nil
	var errs []error
	for _, n := range unsure {
		_, err := p.create(ctx, n)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Roles are moved once: a second host that is asked would move them on.
func (p *pool) move(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	_, err := p.clients[0].MoveSPM(ctx, api.SPMMove{To: to, Reason: "holdfast nemesis"})
	return err
}

func (p *pool) transfer(ctx context.Context, to string) error {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	_, err := p.clients[0].TransferLeadership(ctx, api.RaftTransfer{To: to})
	return err
}
