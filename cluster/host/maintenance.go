package host

import (
	"errors"
	"fmt"

	"github.com/holdfast-io/holdfast/fsm"
)

// ErrMaintenance refuses work on a domain that is in maintenance, or about to be.
var ErrMaintenance = errors.New("the domain is in maintenance, or goes into it; holdfast domain activate takes it back into use")

// RefuseNew says why nothing new may begin on a domain, by id or name, as far as the mirror knows; nil: it may.
func RefuseNew(st *fsm.State, idOrName string) error {
	for id, d := range st.Domains.All() {
		if (id == idOrName || d.Name == idOrName) && !wanted(d) {
			return fmt.Errorf("domain %s is %s: %w", d.Name, d.Status, ErrMaintenance)
		}
	}
	return nil
}

// refused is RefuseNew by this host's mirror.
func (rt *runtime) refused(idOrName string) error { return RefuseNew(rt.node.View(), idOrName) }
