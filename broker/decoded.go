package broker

import (
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/server"
)

const (
	// decodedFree is what a decoded request may take without being counted.
	decodedFree = 64 << 10
	// parkedTargets is how many partitions a fetch may wait for as long as it likes. One of more, if its decoded form is
	// counted, waits for decodedWait only: it is answered with what there is, and asks again.
	parkedTargets = 1000
	decodedWait   = 500 * time.Millisecond
)

// A decodedCharge is what the decoded form of a request takes of the budget for such: a dense one takes many times the
// bytes that it came in (D11).
type decodedCharge struct {
	budget *server.Budget
	n      int64
	given  atomic.Bool
}

func (d *decodedCharge) giveBack() {
	if d != nil && !d.given.Swap(true) {
		d.budget.Release(d.n)
	}
}

// admitDecoded waits until the decoded request has room, and reports whether it has: if not, the connection ends. What is
// taken is given back when the request is answered, or by letGo before.
func (c *call) admitDecoded(budget *server.Budget, n int64) bool {
	if budget.Acquire(c.ctx, n) != nil {
		c.hangUp()
		return false
	}
	charge := &decodedCharge{budget: budget, n: n}
	done := c.done
	c.decoded = charge
	c.done = func(r server.Response) {
		done(r)
		charge.giveBack()
	}
	return true
}

// handleCounted calls the handler of a counted request, whose charge must not be lost with it.
func (c *call) handleCounted(handle func()) {
	returned := false
	defer func() {
		if !returned {
			c.decoded.giveBack()
		}
	}()
	handle()
	returned = true
}

// letGo gives the request's memory back before it is answered: nothing of it may be read afterwards.
func (c *call) letGo() {
	c.request.GiveBack()
	c.decoded.giveBack()
}
