package harness

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/internal/proctest"
)

// PostgresUser and PostgresPassword are those of the one account, a superuser.
const (
	PostgresUser     = "postgres"
	PostgresPassword = "e2e-only"
)

// A Postgres is a PostgreSQL server with logical decoding on loopback, with empty data of its own.
type Postgres struct {
	t    testing.TB
	bin  string
	Host string
	Port string
}

// NewPostgres starts a server, waits until it answers, and stops it with the test. PostgreSQL refuses to run as root, so
// a test that does run as root gives it to the user that Debian's package makes.
func NewPostgres(t testing.TB) *Postgres {
	t.Helper()
	host, port, err := net.SplitHostPort(proctest.FreeAddress(t))
	if err != nil {
		t.Fatal(err)
	}
	p := &Postgres{t: t, bin: postgresBin(t), Host: host, Port: port}
	dir, err := os.MkdirTemp("", "e2e-postgres-") // not below t.TempDir, which is closed to other users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	owner := postgresOwner(t, dir)
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(PostgresPassword+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(p.bin, "initdb"), "--pgdata="+data, "--username="+PostgresUser,
		"--pwfile="+password, "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync")
	initdb.SysProcAttr, initdb.Dir = owner, dir
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	server := exec.Command(filepath.Join(p.bin, "postgres"), "-D", data, "-h", host, "-p", port,
		"-c", "unix_socket_directories=", "-c", "wal_level=logical", "-c", "fsync=off")
	server.SysProcAttr, server.Dir = owner, dir
	process := startCommand(t, "postgres", server)
	t.Cleanup(func() { process.Signal(syscall.SIGINT, exitLimit) }) // fast shutdown: SIGKILL would leave a segment of memory
	Eventually(t, readyLimit, "PostgreSQL answers", func() error {
		_, err := p.try("SELECT 1")
		return err
	})
	return p
}

// Exec runs statements, each in a transaction of its own unless they say BEGIN, and returns the rows without any padding.
func (p *Postgres) Exec(sql string) string {
	p.t.Helper()
	out, err := p.try(sql)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

func (p *Postgres) try(sql string) (string, error) {
	url := fmt.Sprintf("postgresql://%s:%s@%s/postgres", PostgresUser, PostgresPassword, net.JoinHostPort(p.Host, p.Port))
	return TryRun(time.Minute, sql, filepath.Join(p.bin, "psql"),
		"--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname="+url)
}

// postgresBin is where PostgreSQL's programs are: Debian keeps most of them out of PATH, a folder for each release.
func postgresBin(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		t.Fatal(err)
	}
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1])
	}
	path, err := exec.LookPath("initdb")
	if err != nil {
		t.Fatal(errors.Join(errors.New("no PostgreSQL: run e2e/setup.sh"), err))
	}
	return filepath.Dir(path)
}

// postgresOwner says as whom to run PostgreSQL, and gives dir to that user.
func postgresOwner(t testing.TB, dir string) *syscall.SysProcAttr {
	t.Helper()
	attr := dieWithParent()
	if os.Geteuid() != 0 {
		return attr
	}
	owner, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := strconv.ParseUint(owner.Uid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	gid, err := strconv.ParseUint(owner.Gid, 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	if attr == nil {
		attr = &syscall.SysProcAttr{}
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return attr
}
