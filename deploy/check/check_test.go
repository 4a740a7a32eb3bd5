package check

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// stopMax is how long a broker takes at most from SIGTERM to its end, in seconds.
const stopMax = 20

// manifests are all objects, by type.
type manifests struct {
	deployment *appsv1.Deployment
	service    *corev1.Service
	budget     *policyv1.PodDisruptionBudget
	job        *batchv1.Job
	names      map[string]bool // of ConfigMaps and Secrets
}

func load(t *testing.T) manifests {
	t.Helper()
	m := manifests{names: map[string]bool{}}
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("%d manifests: %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		objects, err := Decode(text)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, object := range objects {
			switch o := object.(type) {
			case *appsv1.Deployment:
				m.deployment = o
			case *corev1.Service:
				m.service = o
			case *policyv1.PodDisruptionBudget:
				m.budget = o
			case *batchv1.Job:
				m.job = o
			case *corev1.ConfigMap:
				m.names["ConfigMap "+o.Name] = true
			case *corev1.Secret:
				m.names["Secret "+o.Name] = true
			default:
				t.Errorf("%s: a %T has no place here", file, o)
			}
		}
	}
	if m.deployment == nil || m.service == nil || m.budget == nil || m.job == nil {
		t.Fatalf("something is missing: %+v", m)
	}
	return m
}

func selects(t *testing.T, s *metav1.LabelSelector, pod corev1.PodTemplateSpec) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(labels.Set(pod.Labels))
}

// TestSelectors: Service, budget and spreading are about the brokers, and about nothing else.
func TestSelectors(t *testing.T) {
	m := load(t)
	all := []*metav1.LabelSelector{m.deployment.Spec.Selector, m.budget.Spec.Selector, {MatchLabels: m.service.Spec.Selector}}
	for _, c := range m.deployment.Spec.Template.Spec.TopologySpreadConstraints {
		all = append(all, c.LabelSelector)
	}
	if len(all) < 5 {
		t.Errorf("%d selectors", len(all))
	}
	for _, s := range all {
		if !selects(t, s, m.deployment.Spec.Template) || selects(t, s, m.job.Spec.Template) {
			t.Errorf("%v selects the wrong pods", s)
		}
	}
}

func TestBroker(t *testing.T) {
	m := load(t)
	spec := m.deployment.Spec.Template.Spec
	c := spec.Containers[0]
	if *m.deployment.Spec.Replicas != 3 || len(spec.Volumes) > 0 {
		t.Errorf("%d replicas, volumes %v", *m.deployment.Spec.Replicas, spec.Volumes)
	}
	ports := map[string]bool{}
	for _, p := range c.Ports {
		ports[p.Name] = true
	}
	for _, p := range m.service.Spec.Ports {
		if !ports[p.TargetPort.String()] {
			t.Errorf("the Service's port %s leads nowhere", p.Name)
		}
	}
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "readiness": c.ReadinessProbe, "liveness": c.LivenessProbe} {
		if probe == nil || probe.HTTPGet == nil || !ports[probe.HTTPGet.Port.String()] {
			t.Errorf("%s probe: %v", name, probe)
		}
	}
	if pause := c.Lifecycle.PreStop.Sleep.Seconds; pause < 1 || *spec.TerminationGracePeriodSeconds < pause+stopMax {
		t.Errorf("%d s of grace for a pause of %d s and a stop of %d s", *spec.TerminationGracePeriodSeconds, pause, stopMax)
	}
	for _, e := range c.Env {
		if e.Name != "BROKER_MEMORY" {
			continue
		}
		budget := resource.MustParse(strings.TrimSuffix(e.Value, "B")) // 512MiB, as Kubernetes writes it
		limit := c.Resources.Limits.Memory()
		if limit.Value() < budget.Value()+128<<20 || c.Resources.Requests.Memory().Cmp(*limit) != 0 {
			t.Errorf("a limit of %v and a request of %v for a broker of %v", limit, c.Resources.Requests.Memory(), e.Value)
		}
	}
}

// TestPods: the pods run without privileges, and what they read exists.
func TestPods(t *testing.T) {
	m := load(t)
	for name, spec := range map[string]corev1.PodSpec{"broker": m.deployment.Spec.Template.Spec, "init": m.job.Spec.Template.Spec} {
		c := spec.Containers[0]
		s := c.SecurityContext
		if !*spec.SecurityContext.RunAsNonRoot || !*s.ReadOnlyRootFilesystem || *s.AllowPrivilegeEscalation || s.Capabilities.Drop[0] != "ALL" {
			t.Errorf("%s: privileges: %v, %v", name, spec.SecurityContext, s)
		}
		for _, from := range c.EnvFrom {
			if r := from.ConfigMapRef; r != nil && !m.names["ConfigMap "+r.Name] {
				t.Errorf("%s: there is no ConfigMap %s", name, r.Name)
			}
			if r := from.SecretRef; r != nil && !m.names["Secret "+r.Name] {
				t.Errorf("%s: there is no Secret %s", name, r.Name)
			}
		}
	}
}

// TestStrict: what this package is for.
func TestStrict(t *testing.T) {
	const head = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec:\n"
	for name, tt := range map[string]struct{ manifest, want string }{
		"unknown field":  {head + "  selektor: {}\n", `unknown field "spec.selektor"`},
		"wrong case":     {head + "  Selector: {}\n", `unknown field "spec.Selector"`},
		"repeated field": {head + "  type: ClusterIP\n  type: NodePort\n", `key "type" already set`},
		"unknown kind":   {"apiVersion: v1\nkind: Servce\n", `no kind "Servce"`},
		"wrong type":     {head + "  ports: 9092\n", "cannot unmarshal"},
	} {
		if _, err := Decode([]byte(tt.manifest)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}
