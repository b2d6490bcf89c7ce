package archtest

import "slices"

// topFolders are the only places for Go code. tools/ is a module of its own.
var topFolders = []string{"blockdev", "cluster", "cmd", "fencing", "fsm", "http", "internal", "jepsen", "leases", "mailbox"}

// layer says what the packages of one folder may import from this module.
type layer struct {
	folder string   // the longest matching folder wins
	may    []string // folders it may import from, below; a final "!" means exactly this package
	inTest []string // more for tests
	why    string
}

// testHelpers may be used by the tests of every layer.
var testHelpers = []string{"internal/testutil", "blockdev/faulty"}

// layers is section 2 of the design, from the top of the page to its bottom.
var layers = []layer{
	{folder: "cmd", may: topFolders, why: "the wiring may import everything, so this cannot be broken"},
	{folder: "jepsen", may: []string{"jepsen", "http/client", "http/api", "internal"},
		why: "jepsen drives real processes from outside; what it imported it could not judge"},
	{folder: "jepsen/lun", may: []string{"jepsen/history", "internal"}, inTest: []string{"blockdev"},
		why: "the LUN's server shares no code with its clients; only its tests meet them"},
	{folder: "jepsen/crash", may: []string{"cluster", "leases", "blockdev", "fsm", "internal"},
		why: "crash states are made of the program's own steps, and judged by real programs"},
	{folder: "jepsen/nemesis/safe", may: []string{"http/client", "http/api", "internal"},
		why: "what users run against a pool is part of the program, and must not bring the rest of jepsen with it"},
	{folder: "http", may: []string{"http", "internal"},
		why: "package httpapi declares the interfaces it needs; importing the cluster would let handlers reach around them"},
	{folder: "http/client", may: []string{"http/api", "internal"}, inTest: []string{"http"},
		why: "the client is a leaf that other programs can import"},
	{folder: "http/api", may: nil, inTest: []string{"http"},
		why: "the JSON types are a leaf shared by server, client and command line"},
	{folder: "cluster", may: []string{"cluster", "fsm", "leases", "mailbox", "fencing", "blockdev", "internal"},
		why: "the cluster sits below http and above the disks; it answers requests, it does not know their transport"},
	{folder: "cluster/transport", may: []string{"internal"}, inTest: []string{"cluster/join"},
		why: "the transport moves bytes and must not know what they mean"},
	{folder: "cluster/join", may: []string{"cluster/transport", "fsm", "internal"},
		why: "joining is about certificates, and tokens whose use the replicated state records; it knows no node"},
	{folder: "fsm", may: []string{"internal"},
		why: "the replicated state is pure and records intent and result; disks hold truth, so fsm and blockdev never meet"},
	{folder: "leases", may: []string{"leases", "blockdev!", "internal"}, inTest: []string{"blockdev"},
		why: "leases stand on devices alone: the renewal must share nothing with the rest"},
	{folder: "mailbox", may: []string{"mailbox", "blockdev!", "internal"},
		why: "the mailbox needs only storage: thin volumes must grow when network and quorum are gone"},
	{folder: "fencing", may: []string{"fencing", "internal"},
		why: "a power switch knows neither pools nor leases; who may use it is decided in cluster/manager"},
	{folder: "blockdev", may: []string{"blockdev!", "internal"}, inTest: []string{"blockdev"},
		why: "formats stand on Device alone and take a Guard instead of importing leases, which import blockdev"},
	{folder: "blockdev/domain", may: []string{"blockdev!", "blockdev/lvm2", "blockdev/qcow2", "internal"}, inTest: []string{"blockdev"},
		why: "a domain is made of a volume group and qcow2 layers, and takes a Guard instead of importing leases"},
	{folder: "blockdev/mapper/dm", may: []string{"blockdev!", "blockdev/lvm2", "internal"}, inTest: []string{"blockdev"},
		why: "tables are computed from the volume group, and the kernel is all that they need besides"},
	{folder: "internal", may: nil,
		why: "internal holds leaf helpers; one that imports Holdfast code belongs to that code"},
	{folder: "internal/clock", may: []string{"internal/clockseam"},
		why: "the clock is a leaf; only a build for failure injection has a seam in it"},
	{folder: "internal/vmtest/run", may: []string{"internal/vmtest"},
		why: "it drives virtual machines from outside, and shares no code with what it tests"},
	{folder: "internal/testutil", may: []string{"internal"},
		why: "helpers for tests that imported a package could not be used by that package's own tests"},
}

// library keeps a library in the folders that it belongs to.
type library struct {
	lib  string
	only []string
	why  string
}

var libraries = []library{
	{"github.com/hashicorp/raft", []string{"cluster", "fsm", "cmd", "internal/deps"},
		"nothing below cluster knows raft; fsm only implements its interface"},
	{"github.com/hashicorp/raft-boltdb/v2", []string{"cluster", "internal/deps"}, "Raft's log is the node's business"},
	{"github.com/hashicorp/serf", []string{"cluster", "internal/deps"}, "gossip is a hint, and nothing below cluster takes hints"},
	{"github.com/hashicorp/memberlist", []string{"cluster", "internal/deps"}, "gossip is a hint, and nothing below cluster takes hints"},
	{"github.com/gorilla/mux", []string{"http", "internal/deps"}, "routes are package httpapi's"},
	{"github.com/spf13/cobra", []string{"cmd", "internal/deps"}, "command line parsing stays in cmd"},
	{"os/exec", []string{"cmd", "leases/keeper", "internal", "jepsen", "fencing", "blockdev/qcow2"},
		"programs are started by the wiring, by the keeper's parent and by runners only"},
	{"github.com/bougou/go-ipmi/pkg/client", nil, "it takes answers that nobody authenticated; fencing/ipmi has an exchange of its own"},
	{"github.com/bougou/go-ipmi", []string{"fencing/ipmi"}, "IPMI is one kind of power device"},
	{"testing", []string{"internal/testutil", "jepsen", "http/apitest"},
		"test code must not be in the program; raft has some of its own that we cannot help"},
}

// notInBinary must not be linked into the program at all.
var notInBinary = []struct{ lib, why string }{
	{"internal/testutil", "test code must not be in the program"},
	{"jepsen", "failure injection must not be in the program, but for what is safe on a test pool (jepsen/nemesis/safe)"},
	{"blockdev/faulty", "fault injection must not be in the program"},
	{"internal/clockseam", "the program's clock is right; only a build with the tag jepsen lets it be made wrong"},
	{"github.com/getkin/kin-openapi", "the OpenAPI document is enforced in tests, not at run time"},
	{"go.uber.org/goleak", "leaks are looked for in tests"},
}

// inBinary are exceptions to notInBinary.
var inBinary = []string{"jepsen/nemesis/safe"}

// pure lists what fsm may not use: replicas must agree, so time, ids and random values arrive inside commands.
var pure = []string{"crypto/rand", "math/rand", "math/rand/v2", "net", "net/http", "os", "os/exec", "syscall",
	"github.com/google/uuid", "golang.org/x/sys/unix"}

// layerOf finds the layer of a package: the longest folder that holds it.
func layerOf(pkg string) (layer, bool) {
	best, found := layer{}, false
	for _, l := range layers {
		if under(pkg, l.folder) && (!found || len(l.folder) > len(best.folder)) {
			best, found = l, true
		}
	}
	return best, found
}

// allows reports whether a package of the layer may import another one. A package may always import what lies below
// its own folder in the tree only if the layer names it: being a sub-folder is no permission.
func (l layer) allows(from, to string) bool {
	if from == to {
		return true // an external test of the package itself
	}
	return allowed(rel(to), l.may)
}

func (l layer) allowsInTest(to string) bool {
	return allowed(rel(to), l.inTest) || slices.Contains(testHelpers, rel(to))
}

func allowed(to string, may []string) bool {
	return slices.ContainsFunc(may, func(m string) bool {
		if n := len(m) - 1; m[n] == '!' {
			return to == m[:n]
		}
		return under(to, m)
	})
}
