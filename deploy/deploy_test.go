// Package deploy holds examples of running the broker; its tests keep them true to the broker's settings.
package deploy

import (
	"bytes"
	"errors"
	"io"
	"os"
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

func TestKubernetes(t *testing.T) {
	const name = "kubernetes/broker.yaml"
	docs := documents(t, name)
	kinds := map[any]map[string]any{}
	for _, d := range docs {
		kinds[d["kind"]] = d
	}
	if len(docs) != 3 || kinds["Deployment"] == nil || kinds["Service"] == nil || kinds["Secret"] == nil {
		t.Fatalf("%s holds %d documents: %v", name, len(docs), kinds)
	}
	var deployment struct {
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
	text, err := yaml.Marshal(kinds["Deployment"])
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &deployment); err != nil {
		t.Fatal(err)
	}
	var env []string
	for _, e := range deployment.Spec.Template.Spec.Containers[0].Env {
		env = append(env, e.Name+"="+e.Value)
	}
	if len(env) < 5 {
		t.Fatalf("%s sets only %v", name, env)
	}
	load(t, name, env)
}

func TestCompose(t *testing.T) {
	const name = "compose/compose.yaml"
	var compose struct {
		Services map[string]struct {
			Environment map[string]string
		}
	}
	text, err := yaml.Marshal(documents(t, name)[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &compose); err != nil {
		t.Fatal(err)
	}
	for _, service := range []string{"etcd", "minio", "broker", "connect"} {
		if _, ok := compose.Services[service]; !ok {
			t.Errorf("%s has no service %s", name, service)
		}
	}
	var env []string
	for key, value := range compose.Services["broker"].Environment {
		env = append(env, key+"="+value)
	}
	load(t, name, env)

	worker, err := os.ReadFile("compose/worker.properties")
	if err != nil {
		t.Fatal(err)
	}
	properties, err := config.ParseProperties(worker)
	if err != nil || len(properties) < 8 {
		t.Errorf("worker.properties: %d settings, %v", len(properties), err)
	}
}
