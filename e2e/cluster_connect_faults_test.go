package e2e

import (
	"time"

	"github.com/tidemill/tidemill/e2e/harness"
)

// A connectFault is something that happens to brokers and what they need, and is over when do returns.
type connectFault struct {
	name string
	do   func(r *connectRun)
}

// connectFaults are in the order in which they befall one cluster.
func connectFaults() []connectFault {
	faults := []connectFault{
		{"kill -9 of the controller", func(r *connectRun) { r.kill(r.cluster.Controller()) }},
		{"kill -9 of the workers' coordinator", func(r *connectRun) { r.kill(r.coordinator()) }},
		{"kill -9 of two brokers", func(r *connectRun) { r.kill(r.cluster.Controller(), others(r.cluster)[0]) }},
		{"SIGSTOP for longer than the lease, and SIGCONT", (*connectRun).freeze},
		{"a rolling restart", (*connectRun).roll},
		{"3 to 5 to 3 brokers", (*connectRun).scale},
		{"a member of etcd down", func(r *connectRun) { r.withoutMembers(1, memberDown) }},
		{"the quorum of etcd down", func(r *connectRun) { r.withoutMembers(2, quorumDown) }},
		{"all members of etcd restarted", (*connectRun).restartEtcd},
	}
	for _, f := range storageFaults {
		faults = append(faults, connectFault{"storage: " + f.name, func(r *connectRun) { r.impair(f) }})
	}
	for _, c := range cutOffs {
		faults = append(faults, connectFault{"the workers' coordinator cut off from " + c.name, func(r *connectRun) { r.cut(c) }})
	}
	return faults
}

// kill ends brokers and starts them again once those that are left lead everything: the next life has the address of the one before.
func (r *connectRun) kill(victims ...*harness.Node) {
	r.Helper()
	for _, n := range victims {
		n.Kill9()
	}
	r.cluster.AwaitSpread()
	r.flows("before they are back")
	for _, n := range victims {
		n.Start()
	}
}

func (r *connectRun) freeze() {
	r.Helper()
	n := r.coordinator()
	n.Stop()
	asleep := time.After(zombieSleep)
	harness.Eventually(r, time.Minute, "what the frozen broker led is others'", func() error {
		count, err := r.cluster.Leaders()
		if err == nil && count[n] > 0 {
			err = errorf("it leads %d partitions", count[n])
		}
		return err
	})
	r.flows("while it is frozen")
	<-asleep
	n.Continue()
}

func (r *connectRun) roll() {
	r.Helper()
	for _, n := range r.cluster.Running() {
		n.Terminate()
		n.Start()
		r.cluster.AwaitBrokers(3)
	}
}

func (r *connectRun) scale() {
	r.Helper()
	added := []*harness.Node{r.cluster.Add(), r.cluster.Add()}
	r.cluster.AwaitSpread()
	r.flows("on five brokers")
	for _, n := range added {
		n.Terminate()
	}
}

func (r *connectRun) withoutMembers(n int, d time.Duration) {
	r.Helper()
	end := time.After(d)
	for _, m := range r.cluster.Etcd.Members[:n] {
		m.Kill9()
	}
	r.flows("meanwhile")
	<-end
	r.flows("at its end")
	r.cluster.Etcd.Start()
}

func (r *connectRun) restartEtcd() {
	r.Helper()
	for _, m := range r.cluster.Etcd.Members {
		m.Kill9()
	}
	r.cluster.Etcd.Start()
	<-time.After(memberDown) // longer than a lease and its grace
}

func (r *connectRun) impair(f storageFault) {
	r.Helper()
	r.storage.set(f.usual)
	if f.usual != nil {
		r.flows("as usual")
	}
	end := time.After(f.lasts)
	r.storage.set(f.faulty)
	if f.served {
		r.flows("meanwhile")
	}
	<-end
	r.storage.set(nil)
}

func (r *connectRun) cut(c cutOff) {
	r.Helper()
	proxies := c.proxies(r.coordinator())
	end := time.After(networkCut)
	for _, p := range proxies {
		p.Hold()
	}
	<-end
	for _, p := range proxies {
		p.Pass()
	}
}
