package clusterlabs

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/fencing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// metadataText is that of an agent with every kind of parameter.
const metadataText = `<?xml version="1.0" ?>
<resource-agent name="fence_fake" shortdesc="Fake">
<parameters>
	<parameter name="action" unique="0" required="1"><content type="string" default="reboot" /></parameter>
	<parameter name="ip" required="1" obsoletes="ipaddr"><content type="string" /></parameter>
	<parameter name="ipaddr" required="1" deprecated="1"><content type="string" /></parameter>
	<parameter name="ipport"><content type="integer" default="623" /></parameter>
	<parameter name="username" obsoletes="login"><content type="string" /></parameter>
	<parameter name="login" deprecated="1"><content type="string" /></parameter>
	<parameter name="password" obsoletes="passwd"><content type="string" /></parameter>
	<parameter name="plug" obsoletes="port"><content type="string" /></parameter>
	<parameter name="port" deprecated="1"><content type="string" /></parameter>
	<parameter name="systems-uri" deprecated="1"><content type="string" /></parameter>
	<parameter name="systems_uri" obsoletes="systems-uri"><content type="string" /></parameter>
	<parameter name="power_wait"><content type="second" /></parameter>
	<parameter name="ssl_insecure"><content type="boolean" /></parameter>
	<parameter name="lanplus"><content type="boolean" /></parameter>
	<parameter name="cipher"><content type="integer" /></parameter>
	<parameter name="method"><content type="select"><option value="onoff" /><option value="cycle" /></content></parameter>
	<parameter name="snmp_community_x"><content type="string" /></parameter>
</parameters>
<actions>
	<action name="on" automatic="0"/><action name="off" /><action name="reboot" /><action name="status" /><action name="metadata" />
</actions>
</resource-agent>
`

// agent writes a fence agent that answers metadata, and runs code with $in, its input, and $action for the rest.
func agent(t *testing.T, name, metadata, code string) *Catalog {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "metadata"), []byte(metadata), 0o600); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nhere=" + dir + "\nin=$(cat)\naction=${in%%\n*}; action=${action#action=}\n" +
		"[ \"$action\" != metadata ] || { echo asked >>$here/asked; exec cat $here/metadata; }\n" + code + "\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := NewCatalog([]string{filepath.Join(dir, "empty"), dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// fake is a device on such an agent.
func fake(t *testing.T, code string) *Device {
	t.Helper()
	d, err := New(agent(t, "fence_fake", metadataText, code), Config{
		Agent: "fence_fake", Address: "10.0.0.1", Port: 6230, User: "fence", Secret: fencing.NewSecret("hunter22"),
		Parameters: map[string]string{"plug": "7"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return d
}
