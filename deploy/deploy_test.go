// Package deploy holds examples of running the broker; its tests keep them true to the broker's settings.
package deploy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tidemill/tidemill/config"
)

// documents reads a YAML file strictly enough to find tabs, twice-given keys and bad indentation.
func documents(t *testing.T, name string) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var all []map[string]any
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, doc)
	}
}

// load checks that the broker takes the environment, all of it.
func load(t *testing.T, name string, env []string) {
	t.Helper()
	known := map[string]bool{}
	for _, s := range config.Settings() {
		known[s.Env] = true
	}
	for _, e := range env {
		if key, _, _ := strings.Cut(e, "="); strings.HasPrefix(key, "BROKER_") && !known[key] {
			t.Errorf("%s: the broker has no setting %s", name, key)
		}
	}
	if _, err := config.Load(config.Input{Env: env, WorkDir: "/data", ReadFile: os.ReadFile}); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// TestKubernetes holds the environment of brokers and Job to the broker's settings; package check holds the manifests to
// Kubernetes' types.
func TestKubernetes(t *testing.T) {
	type workload struct {
		Kind string
		Data map[string]string
		Spec struct {
			Template struct {
				Spec struct {
					Containers []struct {
						Env []struct{ Name, Value string }
					}
				}
			}
		}
	}
	var shared []string
	kinds := map[string]workload{}
	for _, name := range []string{"settings", "init", "broker"} {
		for _, doc := range documents(t, "kubernetes/"+name+".yaml") {
			var w workload
			convert(t, doc, &w)
			kinds[w.Kind] = w
			for key, value := range w.Data {
				shared = append(shared, key+"="+value)
			}
		}
	}
	for kind, least := range map[string]int{"Deployment": 5, "Job": 1} {
		env := slices.Clone(shared)
		for _, c := range kinds[kind].Spec.Template.Spec.Containers {
			for _, e := range c.Env {
				// What the kubelet fills in.
				env = append(env, e.Name+"="+strings.ReplaceAll(e.Value, "$(POD_IP)", "10.0.0.1"))
			}
		}
		if len(env) < least+len(shared) || len(shared) == 0 {
			t.Fatalf("the %s sets only %v", kind, env)
		}
		load(t, kind, env)
	}
}

func convert(t *testing.T, doc map[string]any, to any) {
	t.Helper()
	text, err := yaml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, to); err != nil {
		t.Fatal(err)
	}
}

func TestCompose(t *testing.T) {
	const name = "compose/compose.yaml"
	var compose struct {
		Services map[string]struct {
			Environment map[string]string
			Command     any
		}
	}
	convert(t, documents(t, name)[0], &compose)
	command := fmt.Sprint(compose.Services["etcd"].Command)
	for _, flag := range []string{"--auto-compaction-mode=periodic", "--auto-compaction-retention=10m", "--quota-backend-bytes="} {
		if !strings.Contains(command, flag) {
			t.Errorf("etcd is started without %s: %s", flag, command)
		}
	}
	for _, service := range []string{"net", "etcd", "minio", "bucket", "cluster-init", "broker-1", "broker-2", "broker-3", "connect"} {
		s, ok := compose.Services[service]
		if !ok {
			t.Errorf("%s has no service %s", name, service)
		}
		if s.Environment["BROKER_CLUSTER"] == "" {
			continue
		}
		var env []string
		for key, value := range s.Environment {
			env = append(env, key+"="+value)
		}
		load(t, name+" "+service, env)
	}

	worker, err := os.ReadFile("compose/worker.properties")
	if err != nil {
		t.Fatal(err)
	}
	properties, err := config.ParseProperties(worker)
	if err != nil || len(properties) < 8 {
		t.Errorf("worker.properties: %d settings, %v", len(properties), err)
	}
}
