package metadata

import (
	"context"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/tidemill/tidemill/protocol"
)

// CatchUpMax bounds the topics of one CatchUp, which is one read.
const CatchUpMax = batchOps

// A TopicRef names a topic by its id, or by its name when the id is zero.
type TopicRef struct {
	ID   protocol.TopicID
	Name string
}

// CatchUp waits until the Image shows what etcd has of some topics, the first CatchUpMax of those given: that they were created, deleted, or
// got more partitions elsewhere. Like a writer it gives up silently with ctx when the watch does not bring it.
func (s *Store) CatchUp(ctx context.Context, topics []TopicRef) error {
	if len(topics) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	topics = topics[:min(len(topics), CatchUpMax)]
	was := s.Image()
	gets := make([]clientv3.Op, 0, len(topics))
	for _, t := range topics {
		key := s.keys.name(t.Name)
		if !t.ID.IsZero() {
			key = s.keys.topic(t.ID)
		}
		gets = append(gets, clientv3.OpGet(key))
	}
	r, err := s.read(ctx, "look for topics", gets...)
	if err != nil {
		return err
	}
	last := int64(0)
	var gone []*Topic
	for i, t := range topics {
		rev := revAt(r, i)
		last = max(last, rev)
		shown := was.TopicsByID[t.ID]
		if t.ID.IsZero() {
			shown = was.Topics[t.Name]
		}
		if rev == 0 && shown != nil {
			gone = append(gone, shown) // a deletion leaves no revision to wait for
		}
	}
	s.seen(ctx, last)
	for _, t := range gone {
		s.until(ctx, func(i *Image) bool { return i.TopicsByID[t.ID] == nil })
	}
	return nil
}
