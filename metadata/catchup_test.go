package metadata

import (
	"fmt"
	"testing"
)

// TestCatchUp: after it an image shows what another store has just created, raised and deleted, whatever the topics were asked for by.
func TestCatchUp(t *testing.T) {
	a, b := open(t), open(t)
	l := newLife(t, a)
	for i := range 20 {
		name := fmt.Sprint("t.", i)
		topic := create(t, a, name, 1, l)
		see := func(what string, ref TopicRef, ok func(*Image) bool) {
			t.Helper()
			if err := b.CatchUp(t.Context(), []TopicRef{{Name: "absent"}, ref}); err != nil {
				t.Fatal(err)
			}
			if !ok(b.Image()) {
				t.Errorf("%s is not seen", what)
			}
		}
		see("a creation", TopicRef{Name: name}, func(i *Image) bool { return i.Topics[name] != nil })
		if err := a.CreatePartitions(t.Context(), topic.ID, 1, 2, ownedBy(l), nil); err != nil {
			t.Fatal(err)
		}
		see("a new partition", TopicRef{ID: topic.ID}, func(i *Image) bool { return len(i.Topics[name].Partitions) == 2 })
		if err := a.DeleteTopic(t.Context(), topic.ID); err != nil {
			t.Fatal(err)
		}
		see("a deletion", TopicRef{Name: name}, func(i *Image) bool { return i.Topics[name] == nil })
		again := create(t, a, name, 1, l)
		see("another creation", TopicRef{ID: again.ID}, func(i *Image) bool { return i.TopicsByID[again.ID] != nil })
		if err := a.DeleteTopic(t.Context(), again.ID); err != nil {
			t.Fatal(err)
		}
		see("another deletion", TopicRef{ID: again.ID}, func(i *Image) bool { return i.TopicsByID[again.ID] == nil })
	}
}

// TestCatchUpIsBounded: it is one read, and none for nothing.
func TestCatchUpIsBounded(t *testing.T) {
	s := open(t)
	topics := make([]TopicRef, 10*CatchUpMax)
	for i := range topics {
		topics[i].Name = fmt.Sprint("absent", i)
	}
	if err := s.CatchUp(t.Context(), topics); err != nil {
		t.Error(err)
	}
	if err := s.CatchUp(t.Context(), nil); err != nil {
		t.Error(err)
	}
}
