package broker

import (
	"errors"
	"fmt"
	"runtime"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/tidemill/tidemill/kafkaconfig"
	"github.com/tidemill/tidemill/protocol"
	"github.com/tidemill/tidemill/protocol/record"
)

// produceRules are what one batch is held against.
type produceRules struct {
	topic     string
	partition int32
	version   int16
	config    *kafkaconfig.LogConfig
	now       int64 // ms
	internal  bool  // the topic is Kafka's own and the client is not its admin
}

// A checkedBatch may be appended.
type checkedBatch struct {
	batch         record.Batch
	logAppendTime int64 // -1 for CreateTime
}

// A produceRefusal answers a partition whose batch is not appended.
type produceRefusal struct {
	code    protocol.ErrorCode
	message string
	records []badRecord
	// byLog: Kafka's log itself refuses this, so the answer carries the log start (3.13).
	byLog    bool
	logStart int64
}

// badRecord is one record that breaks a rule.
type badRecord struct {
	index   int32
	message string
}

// badRecordsMax is how many bad records an answer lists, as in Kafka.
const badRecordsMax = 3

func (r *produceRefusal) answer(out *kmsg.ProduceResponseTopicPartition) {
	out.ErrorCode = int16(r.code)
	if r.byLog {
		out.LogStartOffset = r.logStart
	}
	if r.message != "" {
		out.ErrorMessage = &r.message
	}
	for _, bad := range r.records {
		e := kmsg.NewProduceResponseTopicPartitionErrorRecord()
		e.RelativeOffset, e.ErrorMessage = bad.index, &bad.message
		out.ErrorRecords = append(out.ErrorRecords, e)
	}
}

// hasTransactional reports whether a partition's first batch claims to be of a transaction. What is no batch is refused later.
func hasTransactional(req *kmsg.ProduceRequest) bool {
	for i := range req.Topics {
		for j := range req.Topics[i].Partitions {
			if batch, err := record.First(req.Topics[i].Partitions[j].Records); err == nil && batch.IsTransactional() {
				return true
			}
		}
	}
	return false
}

// checkProduced holds one partition's records against the rules, in Kafka's order (3.2 rules 4 to 10), and stamps the
// time where the topic wants the broker's.
func checkProduced(records []byte, rules produceRules) (checkedBatch, *produceRefusal) {
	batch, err := record.First(records)
	if err != nil {
		return checkedBatch{}, &produceRefusal{code: codeOf(err)}
	}
	if batch.Codec() == record.Zstd && rules.version < 7 {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeUnsupportedCompressionType}
	}
	if batch.IsTransactional() {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeInvalidTxnState, message: "transactions are not supported by this broker"}
	}
	if rules.internal {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeInvalidTopicException}
	}
	if batch.BaseOffset() != 0 {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeInvalidRecord, byLog: true}
	}
	if int64(len(batch)) > rules.config.MaxMessageBytes {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeMessageTooLarge}
	}
	if err := record.CheckCRC(batch); err != nil {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeCorruptMessage}
	}
	err = record.CheckHeader(batch)
	if err == nil {
		err = record.CheckClient(batch)
	}
	if err != nil {
		return checkedBatch{}, &produceRefusal{code: codeOf(err), byLog: true}
	}
	return checkRecords(batch, rules)
}

// unpacking bounds the batches that are unpacked at a time, for a produce or a lookup by time: each may take much more memory than its request did (D11).
var unpacking = make(chan struct{}, runtime.GOMAXPROCS(0))

// checkRecords holds the records themselves against the rules. Compressed ones are unpacked for that, as Kafka does: what
// cannot be read must not be stored.
func checkRecords(batch record.Batch, rules produceRules) (checkedBatch, *produceRefusal) {
	cfg := rules.config
	appendTime := cfg.TimestampType == kafkaconfig.LogAppendTime
	if appendTime && batch.IsLogAppendTime() {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeInvalidTimestamp, byLog: true,
			message: "Invalid timestamp type in message: a producer may not set the log append time"}
	}
	if batch.Codec() != record.None {
		unpacking <- struct{}{}
		defer func() { <-unpacking }()
	}
	maxTimestamp, refused := walkRecords(batch, rules)
	if refused != nil {
		return checkedBatch{}, refused
	}
	if !appendTime && (maxTimestamp != batch.MaxTimestamp() || batch.IsLogAppendTime()) {
		batch.SetCreateTime(maxTimestamp)
	}
	batch, refused = recompress(batch, cfg)
	if refused != nil {
		return checkedBatch{}, refused
	}
	if int64(len(batch)) > cfg.SegmentBytes {
		return checkedBatch{}, &produceRefusal{code: protocol.CodeRecordListTooLarge}
	}
	if !appendTime {
		return checkedBatch{batch: batch, logAppendTime: -1}, nil
	}
	batch.SetLogAppendTime(rules.now)
	return checkedBatch{batch: batch, logAppendTime: rules.now}, nil
}

// walkRecords checks each record and returns the largest timestamp. One bad record refuses the batch; a bad timestamp
// wins over a missing key (3.2 rule 9).
func walkRecords(batch record.Batch, rules produceRules) (maxTimestamp int64, refused *produceRefusal) {
	sum, err := record.CheckRecords(batch, record.Limits{})
	if err != nil {
		return 0, &produceRefusal{code: recordsCode(err), byLog: true}
	}
	createTime := rules.config.TimestampType == kafkaconfig.CreateTime
	switch {
	case createTime && (checkTimestamp(sum.MinTimestamp, rules) != "" || checkTimestamp(sum.MaxTimestamp, rules) != ""):
		return 0, &produceRefusal{code: protocol.CodeInvalidTimestamp, records: badTimestamps(batch, rules), byLog: true,
			message: "One or more records have been rejected due to invalid timestamp"}
	case rules.config.Cleanup.Compact && sum.HasNullKey:
		refused = &produceRefusal{code: protocol.CodeInvalidRecord, byLog: true,
			message: "One or more records have been rejected: a compacted topic cannot accept messages without key"}
		message := fmt.Sprintf("Compacted topic cannot accept message without key in topic partition %s-%d", rules.topic, rules.partition)
		for _, i := range sum.NullKeys {
			refused.records = append(refused.records, badRecord{i, message})
		}
		return 0, refused
	}
	return sum.MaxTimestamp, nil
}

// badTimestamps lists the first records whose timestamps are out of range.
func badTimestamps(batch record.Batch, rules produceRules) []badRecord {
	var bad []badRecord
	index := int32(0)
	for r, err := range record.Records(batch, record.Limits{}) {
		if err != nil || len(bad) == badRecordsMax {
			break
		}
		if why := checkTimestamp(r.Timestamp, rules); why != "" {
			bad = append(bad, badRecord{index, why})
		}
		index++
	}
	return bad
}

// recordsCode answers records that do not parse: within a batch whose checksum is right they are invalid, not damaged.
func recordsCode(err error) protocol.ErrorCode {
	switch {
	case errors.Is(err, record.ErrBomb):
		return protocol.CodeMessageTooLarge
	case errors.Is(err, record.ErrCorrupt):
		return protocol.CodeInvalidRecord
	}
	return codeOf(err)
}

// checkTimestamp returns what is wrong with a record's timestamp, "" when nothing is. -1 means that the record has none.
func checkTimestamp(ts int64, rules produceRules) string {
	if ts == -1 {
		return ""
	}
	before, after := rules.config.TimestampBeforeMaxMs, rules.config.TimestampAfterMaxMs
	if rules.now-ts > before || ts-rules.now > after {
		return fmt.Sprintf("Timestamp %d of message is out of range: at most %d ms before and %d ms after the broker's time are allowed", ts, before, after)
	}
	return ""
}

// recompress gives the batch the compression that its topic wants (3.2 rule 11).
func recompress(batch record.Batch, cfg *kafkaconfig.LogConfig) (record.Batch, *produceRefusal) {
	want := record.Codec(cfg.Compression)
	if cfg.Compression == kafkaconfig.ProducerCompression || batch.Codec() == want {
		return batch, nil
	}
	level := map[record.Codec]int{record.Gzip: cfg.GzipLevel, record.LZ4: cfg.LZ4Level, record.Zstd: cfg.ZstdLevel}[want]
	out, err := record.Recompress(batch, want, level, record.Limits{})
	if err != nil {
		return nil, &produceRefusal{code: recordsCode(err), byLog: true}
	}
	if int64(len(out)) > cfg.MaxMessageBytes {
		return nil, &produceRefusal{code: protocol.CodeMessageTooLarge}
	}
	return out, nil
}
