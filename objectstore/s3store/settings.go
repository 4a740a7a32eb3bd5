package s3store

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
)

// CheckSettings looks for settings of the bucket that would destroy what is stored in it: a lifecycle rule that expires objects under
// the prefix deletes seals and segments that are needed for ever (G3), and is an error. What only wastes space, or cannot be looked at,
// is a warning.
func (s *Store) CheckSettings(ctx context.Context) (warnings []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	out, err := s.conn.retried.GetBucketLifecycleConfiguration(ctx, &s3.GetBucketLifecycleConfigurationInput{Bucket: &s.config.Bucket})
	status, code := answer(err)
	switch {
	case err == nil:
		for _, r := range out.Rules {
			if s.expires(&r) {
				return nil, fmt.Errorf("lifecycle rule %q of bucket %s expires objects under %q, which deletes data that is needed: remove the rule, or limit it to another prefix",
					aws.ToString(r.ID), s.config.Bucket, rulePrefix(&r))
			}
		}
	case status != http.StatusNotFound:
		warnings = append(warnings, fmt.Sprintf("lifecycle rules of bucket %s could not be looked at (%s): make sure that none expires objects under %q; s3:GetLifecycleConfiguration lets this be checked",
			s.config.Bucket, code, s.config.Prefix))
	}
	versioning, err := s.conn.retried.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: &s.config.Bucket})
	if err == nil && versioning.Status == types.BucketVersioningStatusEnabled {
		warnings = append(warnings, fmt.Sprintf("bucket %s keeps versions, so what is deleted takes space until a rule removes old versions under %s",
			s.config.Bucket, strings.Join([]string{s.config.Prefix + "segment/", s.config.Prefix + "manifest/"}, " and ")))
	}
	return warnings, nil
}

// expires reports whether a rule deletes current objects of ours. Those of the start-up probe may go.
func (s *Store) expires(r *types.LifecycleRule) bool {
	if r.Status != types.ExpirationStatusEnabled || r.Expiration == nil || r.Expiration.Days == nil && r.Expiration.Date == nil {
		return false
	}
	prefix := rulePrefix(r)
	if strings.HasPrefix(prefix, s.config.Prefix+"probe/") {
		return false
	}
	return strings.HasPrefix(s.config.Prefix, prefix) || strings.HasPrefix(prefix, s.config.Prefix)
}

// rulePrefix returns which keys a rule is for. Its other conditions may spare some of them, which nobody should rely on.
func rulePrefix(r *types.LifecycleRule) string {
	switch f := r.Filter; {
	case f != nil && f.Prefix != nil:
		return *f.Prefix
	case f != nil && f.And != nil && f.And.Prefix != nil:
		return *f.And.Prefix
	}
	return aws.ToString(r.Prefix) //nolint:staticcheck // rules of before filters have it still
}
