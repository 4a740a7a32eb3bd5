package e2e

import "testing"

// TestConnectCluster runs everything that needs several workers, or only one of them, on one cluster of three.
func TestConnectCluster(t *testing.T) {
	c := newConnectCluster(t, 3)
	refusals := startRefusals(t, c)
	t.Run("rebalance", func(t *testing.T) { testConnectRebalance(t, c) })
	t.Run("lifecycle", func(t *testing.T) { testConnectLifecycle(t, c) })
	t.Run("offsets", func(t *testing.T) { testConnectOffsets(t, c) })
	t.Run("dead letters", func(t *testing.T) { testConnectDeadLetters(t, c) })
	t.Run("failed tasks", func(t *testing.T) { testConnectFailedTasks(t, c) })
	t.Run("topic deleted", func(t *testing.T) { testConnectTopicDeleted(t, c) })
	t.Run("partitions added", func(t *testing.T) { testConnectPartitionsAdded(t, c) })
	t.Run("refused topics", func(t *testing.T) { testConnectRefusals(t, refusals) })
}
