package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tidemill/tidemill/protocol"
)

// topic manages topics.
func topic(ctx context.Context, e *environment) error {
	subs := map[string]func(context.Context, *environment) error{
		"create": topicCreate, "list": topicList, "describe": topicDescribe, "delete": topicDelete,
	}
	names := []string{"create", "list", "describe", "delete"}
	if len(e.args) == 0 {
		return fmt.Errorf("%w: say broker topic and one of %s", errUsage, strings.Join(names, ", "))
	}
	sub, ok := subs[e.args[0]]
	if !ok {
		return unknown("topic verb", e.args[0], names)
	}
	verb := e.args[0]
	e.args = e.args[1:]
	if verb != "list" && len(e.args) > 0 && !strings.HasPrefix(e.args[0], "-") {
		e.args = append([]string{"--topic"}, e.args...) // broker topic create greetings
	}
	return sub(ctx, e)
}

// pairs collects a repeated flag of name=value.
type pairs map[string]*string

func (p pairs) String() string { return "" }

func (p pairs) Set(text string) error {
	name, value, ok := strings.Cut(text, "=")
	if !ok {
		return fmt.Errorf("%q is not name=value", text)
	}
	p[name] = &value
	return nil
}

func topicCreate(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("topic create")
	name := f.String("topic", "", "`name` of the topic")
	partitions := f.Int("partitions", -1, "`number` of partitions; -1: the broker's num.partitions")
	replication := f.Int("replication-factor", -1, "`factor` to store and show; -1: the broker's default")
	ignore := f.Bool("if-not-exists", false, "succeed when the topic exists")
	configs := pairs{}
	f.Var(configs, "config", "topic setting as `name=value`; can be repeated")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	if err := need(f, "topic"); err != nil {
		return err
	}
	if *partitions != int(int32(*partitions)) || *replication != int(int16(*replication)) {
		return fmt.Errorf("%w: --partitions or --replication-factor is too large", errUsage)
	}
	client, err := dial(ctx, *bootstrap)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := kadm.NewClient(client).CreateTopic(ctx, int32(*partitions), int16(*replication), configs, *name)
	switch {
	case err != nil && *ignore && errors.Is(err, kerr.TopicAlreadyExists):
		_, err = fmt.Fprintf(e.stdout, "topic %s exists\n", *name)
		return err
	case err != nil:
		return fmt.Errorf("create topic %s: %w%s", *name, err, detail(r.ErrMessage))
	}
	_, err = fmt.Fprintf(e.stdout, "created topic %s\n", *name)
	return err
}

// detail is the broker's own message, if it sent one.
func detail(message string) string {
	if message == "" {
		return ""
	}
	return "\n  " + message
}

func topicList(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("topic list")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	client, err := dial(ctx, *bootstrap)
	if err != nil {
		return err
	}
	defer client.Close()
	topics, err := kadm.NewClient(client).ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, t := range topics.Sorted() {
		if _, err := fmt.Fprintln(e.stdout, t.Topic); err != nil {
			return err
		}
	}
	return nil
}

func topicDescribe(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("topic describe")
	name := f.String("topic", "", "`name` of the topic")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	if err := need(f, "topic"); err != nil {
		return err
	}
	client, err := dial(ctx, *bootstrap)
	if err != nil {
		return err
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	topics, err := admin.ListTopicsWithInternal(ctx, *name)
	if err == nil {
		err = topics[*name].Err
	}
	if err != nil {
		return fmt.Errorf("describe topic %s: %w", *name, err)
	}
	starts, err := admin.ListStartOffsets(ctx, *name)
	if err != nil {
		return fmt.Errorf("oldest offsets of %s: %w", *name, err)
	}
	ends, err := admin.ListEndOffsets(ctx, *name)
	if err != nil {
		return fmt.Errorf("newest offsets of %s: %w", *name, err)
	}
	return printTopic(ctx, e, admin, topics[*name], starts, ends)
}

func printTopic(ctx context.Context, e *environment, admin *kadm.Client, t kadm.TopicDetail, starts, ends kadm.ListedOffsets) error {
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintf(w, "topic %s\tid %s\n\nPARTITION\tLEADER\tEPOCH\tREPLICAS\tSTART\tEND\n", t.Topic, protocol.TopicID(t.ID))
	for _, p := range t.Partitions.Sorted() {
		start, _ := starts.Lookup(t.Topic, p.Partition)
		end, _ := ends.Lookup(t.Topic, p.Partition)
		_, _ = fmt.Fprintf(w, "%d\t%d\t%d\t%v\t%d\t%d\n", p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, start.Offset, end.Offset)
	}
	configs, err := admin.DescribeTopicConfigs(ctx, t.Topic)
	if err != nil {
		return fmt.Errorf("settings of %s: %w", t.Topic, err)
	}
	_, _ = fmt.Fprintln(w, "\nSETTING\tVALUE\tSOURCE")
	for _, c := range configs {
		for _, v := range c.Configs {
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", v.Key, v.MaybeValue(), v.Source)
		}
	}
	return w.Flush()
}

func topicDelete(ctx context.Context, e *environment) error {
	f, bootstrap := clientFlags("topic delete")
	name := f.String("topic", "", "`name` of the topic")
	if done, err := parseFlags(f, e); done || err != nil {
		return err
	}
	if err := need(f, "topic"); err != nil {
		return err
	}
	client, err := dial(ctx, *bootstrap)
	if err != nil {
		return err
	}
	defer client.Close()
	r, err := kadm.NewClient(client).DeleteTopic(ctx, *name)
	if err != nil {
		return fmt.Errorf("delete topic %s: %w%s", *name, err, detail(r.ErrMessage))
	}
	_, err = fmt.Fprintf(e.stdout, "deleted topic %s\n", *name)
	return err
}
