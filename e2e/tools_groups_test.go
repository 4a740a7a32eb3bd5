package e2e

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tidemill/tidemill/e2e/harness"
)

const resetToCSV = "g-one,0,2\ng-one,1,1\n"

var groupSteps = slices.Concat(
	calls(`
	kafka-consumer-groups --list
	kafka-topics --create --topic g-one --partitions 2 --config retention.ms=-1
	kafka-topics --create --topic g-two --config retention.ms=-1
	kafka-consumer-groups --describe --group g-absent
	kafka-consumer-groups --describe --group g-absent --members
	kafka-consumer-groups --describe --group g-absent --state
	kafka-consumer-groups --delete --group g-absent
	kafka-consumer-groups --delete-offsets --group g-absent --topic g-one
	kafka-consumer-groups --reset-offsets --group g-absent --topic g-one --to-earliest --dry-run
	kafka-consumer-groups --reset-offsets --group g-new --topic g-one --to-earliest --execute
	kafka-consumer-groups --describe --group g-new
`),
	[]step{{do: fill("g-one", 2, 5)}, {do: fill("g-two", 1, 3)}, {do: consumed("g-group", "g-one", "g-two")}},
	calls(`
	kafka-get-offsets --topic g-one --time max-timestamp
	kafka-get-offsets --topic g-one --time 1700003600000
	kafka-get-offsets --topic g-one --time 1700003600001
	kafka-consumer-groups --list
	kafka-consumer-groups --list --state
	kafka-consumer-groups --list --state Empty
	kafka-consumer-groups --list --state Stable,PreparingRebalance
	kafka-consumer-groups --list --type
	kafka-consumer-groups --list --type classic
	kafka-consumer-groups --list --type consumer
	kafka-groups --list
	kafka-groups --list --consumer
	kafka-groups --list --group-type classic
	kafka-groups --list --protocol consumer
	kafka-groups --list --share
	kafka-groups --list --streams
	kafka-consumer-groups --describe --group g-group
	kafka-consumer-groups --describe --group g-group --verbose
	kafka-consumer-groups --describe --group g-group --offsets --verbose
	kafka-consumer-groups --describe --group g-group --members
	kafka-consumer-groups --describe --group g-group --members --verbose
	kafka-consumer-groups --describe --group g-group --state
	kafka-consumer-groups --describe --group g-group --state --verbose
	kafka-consumer-groups --describe --group g-group --group g-new
	kafka-consumer-groups --describe --all-groups
	kafka-consumer-groups --describe --all-groups --state
	kafka-consumer-groups --describe --all-groups --members
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-earliest
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-earliest --dry-run
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-earliest --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one:1 --to-latest --execute
	kafka-consumer-groups --reset-offsets --group g-group --all-topics --to-latest --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one:0,1 --to-offset 3 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-offset 99 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --shift-by -2 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --shift-by 50 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --shift-by -50 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-current --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-current --execute --export
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-datetime 2020-01-01T00:00:00.000 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-datetime 2023-11-15T00:00:00.000Z --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-datetime 2100-01-01T00:00:00.000+02:00 --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-datetime yesterday --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --by-duration P1D --execute
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --by-duration PT0S --dry-run
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one --to-latest --dry-run --export
	kafka-consumer-groups --reset-offsets --group g-group --all-topics --to-earliest --dry-run --export
	kafka-consumer-groups --reset-offsets --group g-group --group g-new --all-topics --to-earliest --dry-run --export
	kafka-consumer-groups --reset-offsets --all-groups --topic g-one --to-earliest --dry-run
	kafka-consumer-groups --reset-offsets --group g-group --topic g-absent --to-earliest --dry-run
	kafka-consumer-groups --reset-offsets --group g-group --topic g-one:9 --to-earliest --dry-run
	kafka-consumer-groups --reset-offsets --group g-group --to-earliest --dry-run
`),
	[]step{
		{call: "kafka-consumer-groups --reset-offsets --group g-group --from-file $file --dry-run", file: resetToCSV},
		{call: "kafka-consumer-groups --reset-offsets --group g-group --from-file $file --execute", file: resetToCSV},
		{call: "kafka-consumer-groups --reset-offsets --group g-group --group g-new --from-file $file --execute", file: "g-group,g-one,0,1\ng-new,g-one,1,4\n"},
		{call: "kafka-consumer-groups --describe --all-groups"},
		{call: "kafka-console-consumer --topic g-one --group g-group --max-messages 3 --timeout-ms 60000"},
		{do: join("g-busy", "g-one")},
	},
	calls(`
	kafka-consumer-groups --list --state
	kafka-consumer-groups --list --state stable --type classic
	kafka-groups --list
	kafka-consumer-groups --describe --group g-busy
	kafka-consumer-groups --describe --group g-busy --verbose
	kafka-consumer-groups --describe --group g-busy --members
	kafka-consumer-groups --describe --group g-busy --members --verbose
	kafka-consumer-groups --describe --group g-busy --state
	kafka-consumer-groups --describe --group g-busy --state --verbose
	kafka-consumer-groups --reset-offsets --group g-busy --topic g-one --to-earliest --execute
	kafka-consumer-groups --reset-offsets --group g-busy --topic g-one --to-earliest --dry-run
	kafka-consumer-groups --delete-offsets --group g-busy --topic g-one
	kafka-consumer-groups --delete-offsets --group g-busy --topic g-two
	kafka-consumer-groups --delete --group g-busy
	kafka-consumer-groups --delete --group g-busy --group g-new --group g-absent
	kafka-consumer-groups --list
	kafka-consumer-groups --delete-offsets --group g-group --topic g-two
	kafka-consumer-groups --delete-offsets --group g-group --topic g-two
	kafka-consumer-groups --delete-offsets --group g-group --topic g-one:0
	kafka-consumer-groups --delete-offsets --group g-group --topic g-one:9
	kafka-consumer-groups --delete-offsets --group g-group --topic g-absent
	kafka-consumer-groups --describe --group g-group
	kafka-consumer-groups --delete --group g-group
	kafka-consumer-groups --describe --group g-group
	kafka-consumer-groups --validate-regex g-.*
`),
	[]step{{do: leave("g-busy")}},
	calls(`
	kafka-consumer-groups --describe --group g-busy --state
	kafka-consumer-groups --delete --all-groups
	kafka-consumer-groups --list
	kafka-streams-groups --list
	kafka-streams-groups --list --state
	kafka-streams-groups --describe --group g-streams
	kafka-streams-groups --delete --group g-streams
	kafka-streams-application-reset --application-id g-streams --input-topics g-one
	kafka-streams-application-reset --application-id g-streams --input-topics g-one --dry-run
	kafka-streams-application-reset --application-id g-streams --input-topics g-absent
	kafka-console-consumer --topic g-one --group g-848 --from-beginning --max-messages 10 --timeout-ms 60000 --command-property group.protocol=consumer
	kafka-console-consumer --topic g-one --group g-8 --from-beginning --max-messages 10 --timeout-ms 60000 --command-property group.instance.id=static
	kafka-consumer-groups --describe --group g-8 --state
	kafka-topics --delete --topic g-.*
`))

// fill writes count records to each partition, one a batch, with times an hour apart from 2023-11-14T22:13:20Z on, which a
// topic has to be told to retain.
func fill(topic string, partitions, count int) func(*side) {
	return func(s *side) {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		client := s.broker.Client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for p := range partitions {
			for i := range count {
				r := &kgo.Record{Topic: topic, Partition: int32(p), Value: fmt.Appendf(nil, "p%d r%d", p, i), Timestamp: time.Unix(1_700_000_000, 0).Add(time.Duration(i) * time.Hour)}
				if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
					s.t.Fatal(err)
				}
			}
		}
	}
}

// consumed leaves an empty group that has read some records of each topic.
func consumed(group string, topics ...string) func(*side) {
	return func(s *side) {
		s.member(group, "", topics)
		leave(group)(s)
		admin := kadm.NewClient(s.broker.Client())
		offsets := kadm.Offsets{}
		for _, topic := range topics {
			offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 2, Metadata: "two of them", LeaderEpoch: -1})
		}
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		if resp, err := admin.CommitOffsets(ctx, group, offsets); err != nil || resp.Error() != nil {
			s.t.Fatal(err, resp.Error())
		}
	}
}

// join adds two members to a group, one of them static, and waits until the group is stable.
func join(group string, topics ...string) func(*side) {
	return func(s *side) {
		s.member(group, "", topics)
		s.member(group, "instance-b", topics)
	}
}

// member adds a member and waits until the group is stable with all its members.
func (s *side) member(group, instance string, topics []string) {
	s.t.Helper()
	opts := []kgo.Opt{kgo.ConsumerGroup(group), kgo.ConsumeTopics(topics...), kgo.ClientID("client" + instance), kgo.Balancers(kgo.RangeBalancer()),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if instance != "" {
		opts = append(opts, kgo.InstanceID(instance))
	}
	if s.members == nil {
		s.members = map[string][]*kgo.Client{}
	}
	s.members[group] = append(s.members[group], s.broker.Client(opts...))
	s.settle(group, "Stable", len(s.members[group]))
}

// leave ends the members of a group, the static ones too.
func leave(group string) func(*side) {
	return func(s *side) {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		admin := kadm.NewClient(s.broker.Client())
		for _, m := range s.members[group] {
			m.Close()
		}
		if _, err := admin.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs("instance-b")); err != nil {
			s.t.Fatal(err)
		}
		delete(s.members, group)
		s.settle(group, "Empty", 0)
	}
}

// settle waits until a group has that state and so many members.
func (s *side) settle(group, state string, members int) {
	s.t.Helper()
	admin := kadm.NewClient(s.broker.Client())
	harness.Eventually(s.t, callLimit, "group "+group+" is "+state, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), callLimit)
		defer cancel()
		groups, err := admin.DescribeGroups(ctx, group)
		if err != nil {
			return err
		}
		if g := groups[group]; g.State != state || len(g.Members) != members {
			return fmt.Errorf("it is %s with %d members", g.State, len(g.Members))
		}
		return nil
	})
}
