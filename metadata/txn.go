package metadata

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
)

// retryEvery spaces attempts while etcd is away: often enough that a leader change is over soon after it is over.
const retryEvery = 50 * time.Millisecond

// attempts is how many tries like the first of a request Config.Timeout has room for.
const attempts = 4

// A write is one transaction. Its attempts are the same, so the comparisons admit at most one of them.
type write struct {
	what string // for errors: "create topic x"
	when []clientv3.Cmp
	then []clientv3.Op
	// orElse reads what tells why a comparison failed, or whether an earlier attempt was the reason.
	orElse []clientv3.Op
	// mine reports whether the answer to orElse shows that an earlier attempt was applied.
	mine func(*clientv3.TxnResponse) bool
	// reads: nothing is written, so that no outcome is in doubt.
	reads bool
}

// commit runs w until its outcome is known or ctx ends. It returns the last answer and whether w was applied; the answer
// to orElse is in it when w was not, or when w was applied by an attempt whose answer was lost.
func (s *Store) commit(ctx context.Context, w write) (*clientv3.TxnResponse, bool, error) {
	op := clientv3.OpTxn(w.when, w.then, w.orElse)
	ambiguous := false
	for n := 0; ; n++ {
		var sent atomic.Bool
		try, cancel := s.attempt(ctx, n)
		r, err := s.kv.Do(context.WithValue(try, sentKey{}, &sent), op)
		cancel()
		if err == nil {
			s.heard()
			txn := r.Txn()
			return txn, txn.Succeeded || ambiguous && w.mine != nil && w.mine(txn), nil
		}
		if refused(err) && !ambiguous {
			return nil, false, fmt.Errorf("%s: %w", w.what, err)
		}
		ambiguous = !w.reads && (ambiguous || sent.Load())
		if !s.pause(ctx, retryEvery) {
			if ambiguous {
				return nil, false, fmt.Errorf("%s: %w: %w", w.what, ErrUnknownOutcome, err)
			}
			return nil, false, fmt.Errorf("%s: %w: %w", w.what, ErrUnavailable, err)
		}
	}
}

// read runs gets in one transaction, serialised with all writes, until it has an answer or ctx ends.
func (s *Store) read(ctx context.Context, what string, gets ...clientv3.Op) (*clientv3.TxnResponse, error) {
	r, _, err := s.commit(ctx, write{what: what, then: gets, reads: true}) // so that its error is never ErrUnknownOutcome
	return r, err
}

// attempt bounds the n-th try of one request, from 0: the member of etcd that got it may be cut off from the others, and says so only once it
// knows, or may hang. The next try goes to another. Tries get longer, for members that are only slow.
func (s *Store) attempt(ctx context.Context, n int) (context.Context, context.CancelFunc) {
	return context.WithTimeout(clientv3.WithRequireLeader(ctx), s.config.Timeout/attempts<<min(n, 2))
}

// again repeats what does no harm when it is done twice, until it has an answer or ctx ends.
func (s *Store) again(ctx context.Context, do func(ctx context.Context) error) error {
	for n := 0; ; n++ {
		try, cancel := s.attempt(ctx, n)
		err := do(try)
		cancel()
		if err == nil || !passing(err) || !s.pause(ctx, retryEvery) {
			return err
		}
	}
}

// passing tells errors of the member that was asked, or of the way to it. What etcd says about the request it will say again.
func passing(err error) bool {
	var said rpctypes.EtcdError
	if errors.As(err, &said) {
		return said.Code() == codes.Unavailable
	}
	return errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.Unavailable
}

// refused tells errors that no repetition mends, and with which nothing was written. All others may have come after the
// write, NOSPACE too.
func refused(err error) bool {
	for _, final := range []error{
		rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrRequestTooLarge, rpctypes.ErrEmptyKey,
		rpctypes.ErrPermissionDenied, rpctypes.ErrLeaseNotFound,
	} {
		if errors.Is(err, final) {
			return true
		}
	}
	return false
}

// pause waits for the next attempt and reports whether there may be one.
func (s *Store) pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
	case <-s.ctx.Done():
	}
	return false
}

func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.config.Timeout)
}

func newOp() string {
	var b [8]byte
	rand.Read(b[:]) // crypto/rand.Read never fails
	return hex.EncodeToString(b[:])
}

// sentKey finds the flag that sentHandler sets.
type sentKey struct{}

// sentHandler notes for commit whether a request left this process: what never left was not applied, so "etcd is down" can
// be told from "nobody knows".
type sentHandler struct{}

// TagRPC implements stats.Handler.
func (sentHandler) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// HandleRPC implements stats.Handler.
func (sentHandler) HandleRPC(ctx context.Context, event stats.RPCStats) {
	if _, ok := event.(*stats.OutHeader); ok {
		if sent, ok := ctx.Value(sentKey{}).(*atomic.Bool); ok {
			sent.Store(true)
		}
	}
}

// TagConn implements stats.Handler.
func (sentHandler) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (sentHandler) HandleConn(context.Context, stats.ConnStats) {}

type kvPair = mvccpb.KeyValue

// revIs compares the revision of a key's last change; 0 means that the key is absent.
func revIs(key string, rev int64) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", rev)
}

// kvAt returns the one pair that the i-th read of an answer found, or nil.
func kvAt(r *clientv3.TxnResponse, i int) *kvPair {
	kvs := r.Responses[i].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return nil
	}
	return kvs[0]
}

// revAt returns the revision of what the i-th read of an answer found, 0 for nothing.
func revAt(r *clientv3.TxnResponse, i int) int64 {
	if kv := kvAt(r, i); kv != nil {
		return kv.ModRevision
	}
	return 0
}

// opAt reports whether the i-th read of an answer found a value that the operation op wrote.
func opAt(r *clientv3.TxnResponse, i int, op string) bool {
	kv := kvAt(r, i)
	if kv == nil {
		return false
	}
	h, err := decode[header](string(kv.Key), kv.Value)
	return err == nil && h.Op == op
}
