package localcluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/internal/process"
)

const (
	clusterName = "local-cluster"
	bucketName  = "tidemill"
	accessKey   = "tidemill"
	secretKey   = "tidemill-secret"
	// brokerPatience is longer than a broker's stop takes, which hands its partitions over.
	brokerPatience = 30 * time.Second
	// serverPatience is for etcd and MinIO, which have nothing to do any more.
	serverPatience = 10 * time.Second
	// linesShown are the lines of its log that tell why a part has ended.
	linesShown = 15
)

func zone(i int) string { return "zone-" + string(rune('a'+i)) }

func (c *cluster) url() string { return "etcd://" + c.Etcd + "/" + clusterName }

func (c *cluster) bootstrap() string {
	addresses := make([]string, len(c.Brokers))
	for i, b := range c.Brokers {
		addresses[i] = b.Kafka
	}
	return strings.Join(addresses, ",")
}

func credentials() []string {
	return []string{"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey}
}

// start starts the parts in order, each set when the one before serves.
func (c *cluster) start(ctx context.Context) error {
	fmt.Fprintln(c.Out, "starting etcd and MinIO (building them takes minutes, once per machine)")
	etcd, err := process.Etcd.Build()
	if err != nil {
		return fmt.Errorf("build etcd: %w", err)
	}
	minio, err := process.MinIO.Build()
	if err != nil {
		return fmt.Errorf("build MinIO: %w", err)
	}
	// A folder of MinIO's data folder is a bucket.
	for _, folder := range []string{"logs", "etcd", filepath.Join("minio", bucketName)} {
		if err := os.MkdirAll(filepath.Join(c.Folder, folder), 0o777); err != nil {
			return err
		}
	}
	if err := c.launch(ctx, c.etcdCommand(etcd), c.minioCommand(minio)); err != nil {
		return err
	}
	if err := c.setUp(ctx); err != nil {
		return err
	}
	fmt.Fprintln(c.Out, "starting the brokers")
	var brokers []process.Command
	for i := range c.Brokers {
		brokers = append(brokers, c.brokerCommand(i))
	}
	return c.launch(ctx, brokers...)
}

// launch starts processes and waits until all serve.
func (c *cluster) launch(ctx context.Context, commands ...process.Command) error {
	var begun []*part
	for _, command := range commands {
		log, err := os.OpenFile(c.logFile(command.Name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
		if err != nil {
			return err
		}
		command.Log = log
		started, err := process.Start(command)
		if err != nil {
			return errors.Join(err, log.Close())
		}
		p := &part{Process: started, name: command.Name, log: log}
		c.parts, begun = append(c.parts, p), append(begun, p)
		go func() { // ends with the process, which stop waits for
			<-p.Exited()
			c.ended <- p
		}()
	}
	for _, p := range begun {
		if err := p.Ready(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, p.last())
		}
	}
	return nil
}

func (c *cluster) logFile(name string) string {
	return filepath.Join(c.Folder, "logs", strings.ReplaceAll(name, " ", "-")+".log")
}

func (c *cluster) etcdCommand(binary string) process.Command {
	client, peer := "http://"+c.Etcd, "http://"+c.EtcdPeer
	return process.Command{
		Name: "etcd",
		Argv: []string{
			binary, "--name", "local", "--data-dir", filepath.Join(c.Folder, "etcd"),
			"--listen-client-urls", client, "--advertise-client-urls", client,
			"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "local=" + peer,
			// etcd keeps every value that a key ever had, until it is told not to.
			"--auto-compaction-mode", "periodic", "--auto-compaction-retention", "10m", "--quota-backend-bytes", "2147483648",
		},
		Health: client + "/health",
	}
}

func (c *cluster) minioCommand(binary string) process.Command {
	data := filepath.Join(c.Folder, "minio")
	return process.Command{
		Name: "MinIO",
		Argv: []string{binary, "server", "--quiet", "--address", c.S3, "--console-address", c.Console, data},
		Env: []string{
			"MINIO_ROOT_USER=" + accessKey, "MINIO_ROOT_PASSWORD=" + secretKey, "MINIO_UPDATE=off", "MINIO_CALLHOME_ENABLE=off",
			"MINIO_CI_CD=1", // a folder of the system's disk will do
			"HOME=" + data, "MINIO_CONFIG_DIR=" + filepath.Join(data, ".config"),
		},
		Health: "http://" + c.S3 + "/minio/health/cluster", // live is said before requests are served
	}
}

func (c *cluster) brokerCommand(i int) process.Command {
	b := c.Brokers[i]
	return process.Command{
		Name: fmt.Sprintf("broker %d", i+1),
		Argv: []string{
			c.Program, "serve", "--cluster", c.url(), "--broker-id", fmt.Sprint(i + 1), "--rack", zone(i),
			"--listen", b.Kafka, "--http", b.HTTP, "--memory", "256MiB",
			"--write-profile", "free", // a PUT costs nothing here
		},
		Env:    credentials(),
		Health: "http://" + b.HTTP + "/readyz",
	}
}

// setUp says once where the data is, as for any cluster.
func (c *cluster) setUp(ctx context.Context) error {
	bucket := "s3://" + bucketName + "/" + clusterName + "?endpoint=http://" + c.S3 + "&region=us-east-1&path-style=true"
	init := exec.CommandContext(ctx, c.Program, "cluster", "init", "--cluster", c.url(), "--bucket", bucket)
	init.Env = append(os.Environ(), credentials()...)
	output, err := init.CombinedOutput()
	if err != nil {
		return fmt.Errorf("broker cluster init: %w\n%s", err, output)
	}
	_, err = c.Out.Write(output)
	return err
}

// stop ends the brokers, and then what they need. Nothing is left running.
func (c *cluster) stop() error {
	if len(c.parts) == 0 {
		return nil
	}
	fmt.Fprintln(c.Out, "stopping the brokers, then MinIO and etcd")
	var brokers, servers []*part
	for _, p := range c.parts {
		if p.isBroker() {
			brokers = append(brokers, p)
		} else {
			servers = append(servers, p)
		}
	}
	return errors.Join(stopAll(brokers, brokerPatience), stopAll(servers, serverPatience))
}

// stopAll asks all to end, waits, and kills those that do not.
func stopAll(parts []*part, patience time.Duration) error {
	var errs []error
	for _, p := range parts {
		errs = append(errs, p.Signal(syscall.SIGTERM))
	}
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for _, p := range parts {
		select {
		case <-p.Exited():
		case <-deadline.C:
			deadline.Reset(0) // the others have had the same time
			errs = append(errs, fmt.Errorf("%s did not end within %v of SIGTERM and was killed", p.name, patience), p.Signal(syscall.SIGKILL))
			<-p.Exited()
		}
		errs = append(errs, p.log.Close())
	}
	return errors.Join(errs...)
}

func (p *part) isBroker() bool { return strings.HasPrefix(p.name, "broker ") }

// end says how a part ended that should not have.
func (p *part) end() error {
	how := "exit code 0"
	if err := p.Err(); err != nil {
		how = err.Error()
	}
	return fmt.Errorf("%s has ended (%s)\n%s", p.name, how, p.last())
}

// last is the end of the part's log.
func (p *part) last() string {
	lines := strings.Split(strings.TrimRight(p.Output(), "\n"), "\n")
	lines = lines[max(0, len(lines)-linesShown):]
	return fmt.Sprintf("  %s\n  all of it is in %s", strings.Join(lines, "\n  "), p.log.Name())
}
