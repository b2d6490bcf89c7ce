package pool

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
)

// bootEnv names the file from which a test build of the program takes which boot of the machine this is: the hosts share a machine that
// never boots.
const bootEnv = "HOLDFAST_BOOT_SEAM"

func (h *host) bootFile() string { return filepath.Join(h.dir, "boot_id") }

// boot gives the host a new boot. What was attached before is not any more.
func (h *host) boot() error {
	if err := os.WriteFile(h.bootFile(), []byte(uuid.NewString()+"\n"), 0o600); err != nil {
		return fmt.Errorf("booting %s: %w", h.name, err)
	}
	return nil
}
