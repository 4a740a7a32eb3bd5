package etcdembed

import (
	"context"
	"log/slog"
	"sync/atomic"

	"go.uber.org/zap/zapcore"
)

// A forwarder hands etcd's errors to slog and drops the rest: etcd logs some hundred lines at each start, and calls
// errors what is none: that a fresh folder has no storage version yet, and that it is being stopped.
type forwarder struct {
	log     *slog.Logger
	closing *atomic.Bool
	fields  []zapcore.Field
}

// freshFolder is etcd's complaint at the first start on a folder.
const freshFolder = "failed to update storage version"

// Enabled implements zapcore.LevelEnabler.
func (f *forwarder) Enabled(l zapcore.Level) bool { return l >= zapcore.ErrorLevel }

// With implements zapcore.Core.
func (f *forwarder) With(fields []zapcore.Field) zapcore.Core {
	all := append(append([]zapcore.Field(nil), f.fields...), fields...)
	return &forwarder{log: f.log, closing: f.closing, fields: all}
}

// Check implements zapcore.Core.
func (f *forwarder) Check(e zapcore.Entry, c *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if f.Enabled(e.Level) && !f.closing.Load() && e.Message != freshFolder {
		return c.AddCore(e, f)
	}
	return c
}

// Write implements zapcore.Core.
func (f *forwarder) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, field := range append(append([]zapcore.Field(nil), f.fields...), fields...) {
		field.AddTo(enc)
	}
	attrs := make([]slog.Attr, 0, len(enc.Fields))
	for k, v := range enc.Fields {
		attrs = append(attrs, slog.Any(k, v))
	}
	f.log.LogAttrs(context.Background(), slog.LevelError, "embedded etcd", append(attrs, slog.String("says", e.Message))...)
	return nil
}

// Sync implements zapcore.Core.
func (f *forwarder) Sync() error { return nil }
