package redfish

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/holdfast-io/holdfast/fencing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser   = "fence"
	testSecret = "correct-horse"
)

// mock is a BMC with Redfish, and everything that one can do wrong.
type mock struct {
	url  *url.URL
	cert string // path of a PEM file

	mu        sync.Mutex // guards what follows
	power     string
	systems   []string
	allowable []string
	target    string
	liar      bool
	status    int               // of the answer to Reset; 0 is 204
	raw       map[string]string // other answers, by path
	redirect  string
	resets    []string
	sessions  int
	requests  []string
}

func startMock(t *testing.T) *mock {
	t.Helper()
	m := &mock{power: "On", systems: []string{"1"}, target: "/redfish/v1/Systems/1/Actions/ComputerSystem.Reset", raw: map[string]string{}}
	srv := httptest.NewUnstartedServer(m)
	srv.Config.ErrorLog = log.New(testWriter{}, "", 0)
	srv.StartTLS()
	t.Cleanup(srv.Close)
	u, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	m.url = u
	m.cert = filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(m.cert, block, 0o600); err != nil {
		t.Fatal(err)
	}
	return m
}

// testWriter drops the server's complaints about clients that do not trust it, which is what is tested.
type testWriter struct{}

func (testWriter) Write(b []byte) (int, error) { return len(b), nil }

func (m *mock) set(change func(m *mock)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

func (m *mock) did() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.resets, " ")
}

// ServeHTTP is the BMC.
func (m *mock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	path := strings.TrimSuffix(r.URL.Path, "/")
	m.requests = append(m.requests, r.Method+" "+path)
	if m.redirect != "" {
		http.Redirect(w, r, m.redirect, http.StatusTemporaryRedirect)
		return
	}
	if r.Method == http.MethodPost && path == "/redfish/v1/SessionService/Sessions" {
		m.login(w, r)
		return
	}
	if user, pass, _ := r.BasicAuth(); (user != testUser || pass != testSecret) && r.Header.Get("X-Auth-Token") != "token" {
		fail(w, http.StatusUnauthorized, "no such user or password "+pass)
		return
	}
	if raw, ok := m.raw[path]; ok {
		_, _ = w.Write([]byte(raw))
		return
	}
	switch {
	case r.Method == http.MethodDelete && path == "/redfish/v1/SessionService/Sessions/7":
		m.sessions--
		w.WriteHeader(http.StatusNoContent)
	case path == "/redfish/v1":
		answer(w, map[string]any{"Systems": map[string]string{"@odata.id": "/redfish/v1/Systems"}})
	case path == "/redfish/v1/Systems":
		var members []map[string]string
		for _, id := range m.systems {
			members = append(members, map[string]string{"@odata.id": "/redfish/v1/Systems/" + id})
		}
		answer(w, map[string]any{"Members": members})
	case path == "/redfish/v1/Systems/1":
		reset := map[string]any{"target": m.target}
		if m.allowable != nil {
			reset["ResetType@Redfish.AllowableValues"] = m.allowable
		}
		answer(w, map[string]any{"Id": "1", "PowerState": m.power, "Actions": map[string]any{"#ComputerSystem.Reset": reset}})
	case r.Method == http.MethodPost && path == m.target:
		m.reset(w, r)
	default:
		fail(w, http.StatusNotFound, "no "+path)
	}
}

func (m *mock) login(w http.ResponseWriter, r *http.Request) {
	var in struct{ UserName, Password string }
	if json.NewDecoder(r.Body).Decode(&in) != nil || in.UserName != testUser || in.Password != testSecret {
		fail(w, http.StatusUnauthorized, "wrong password "+in.Password)
		return
	}
	m.sessions++
	w.Header().Set("X-Auth-Token", "token")
	w.Header().Set("Location", "/redfish/v1/SessionService/Sessions/7")
	w.WriteHeader(http.StatusCreated)
}

func (m *mock) reset(w http.ResponseWriter, r *http.Request) {
	var in struct{ ResetType string }
	_ = json.NewDecoder(r.Body).Decode(&in)
	m.resets = append(m.resets, in.ResetType)
	if m.status != 0 {
		fail(w, m.status, "the chassis is locked")
		return
	}
	if !m.liar {
		switch in.ResetType {
		case "ForceOff":
			m.power = "Off"
		case "On", "ForceOn", "ForceRestart":
			m.power = "On"
		}
	}
	w.WriteHeader(http.StatusNoContent)
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func fail(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"error":{"code":"Base.1.0.GeneralError","message":"failed","@Message.ExtendedInfo":[{"Message":%q}]}}`, message)
}

func (m *mock) port(t *testing.T) int {
	t.Helper()
	p, err := strconv.Atoi(m.url.Port())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// device is one that trusts the mock.
func (m *mock) device(t *testing.T, change func(*Config)) *Device {
	t.Helper()
	c := Default()
	c.Address, c.Port, c.User, c.Secret, c.CA = m.url.Hostname(), m.port(t), testUser, fencing.NewSecret(testSecret), m.cert
	if change != nil {
		change(&c)
	}
	d, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return d
}
