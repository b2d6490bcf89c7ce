package blockdev

import (
	"context"
	"fmt"
)

func openNBD(ctx context.Context, uri string, o Options) (Device, error) {
	return nil, fmt.Errorf("%w: nbd", ErrNotSupported)
}
