package metadata

import (
	"testing"
	"time"
)

// TestIdleLifeLearnsItsEnd seals a life that keeps its lease: it writes nothing, so no foreign slot tells it.
func TestIdleLifeLearnsItsEnd(t *testing.T) {
	s := openWith(t, func(c *Config) { c.LeaseTTL = time.Second })
	l := newLife(t, s)
	reg := must[*Registration](t)(s.Register(t.Context(), l, BrokerInfo{Host: "h", Port: 1}))
	seal(t, s, l, 0)
	select {
	case <-reg.Fenced():
	case <-time.After(10 * time.Second):
		t.Fatal("the life does not learn that it was sealed")
	}
	if err := reg.Unregister(t.Context()); err != nil {
		t.Errorf("unregister: %v", err)
	}
}
