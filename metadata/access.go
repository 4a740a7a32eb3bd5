package metadata

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// explainTimeout bounds the look for a reason why etcd does not answer.
const explainTimeout = time.Second

// opening tells a user that etcd refuses from an etcd that does not answer.
func opening(ctx context.Context, c Config, err error) error {
	for _, refusal := range []error{
		rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken,
	} {
		if errors.Is(err, refusal) {
			return fmt.Errorf("%w: %w", ErrDenied, err)
		}
	}
	if reason := explain(ctx, c); reason != nil {
		return fmt.Errorf("%w: %w: %w", ErrUnreachable, err, reason)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

// explain finds out what hinders connections. etcd's client waits for one until its time is over and does not say.
func explain(ctx context.Context, c Config) error {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	for _, endpoint := range c.Endpoints {
		if strings.Contains(endpoint, "://") || strings.HasPrefix(endpoint, "unix:") {
			continue
		}
		dial := (&net.Dialer{}).DialContext
		if c.TLS != nil {
			dial = (&tls.Dialer{Config: c.TLS}).DialContext
		}
		conn, err := dial(ctx, "tcp", endpoint)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("connect to %s: %w", endpoint, err)
		}
		conn.Close()
	}
	return nil
}
