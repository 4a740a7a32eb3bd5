package s3store

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/objectstore"
)

// Codes that say more than their status, which services do not agree on.
var (
	deniedCodes = set("AccessDenied", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "InvalidAccessKeyId",
		"SignatureDoesNotMatch", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed")
	bucketCodes = set("NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "XMinioStorageFull", "QuotaExceeded",
		"XMinioAdminBucketQuotaExceeded", "NotImplemented")
)

func set(codes ...string) map[string]bool {
	s := make(map[string]bool, len(codes))
	for _, code := range codes {
		s[code] = true
	}
	return s
}

// answer returns the status and error code that the service answered with; zero values when it did not answer.
func answer(err error) (status int, code string) {
	if response, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		status = response.HTTPStatusCode()
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		code = api.ErrorCode()
	}
	return status, code
}

// configuration returns ErrDenied or ErrNoBucket for answers that only a person or new credentials can change.
func configuration(err error) error {
	status, code := answer(err)
	switch {
	case bucketCodes[code], status == http.StatusInsufficientStorage, status == http.StatusNotImplemented, status == http.StatusMovedPermanently:
		return objectstore.ErrNoBucket
	case errors.Is(err, objectstore.ErrDenied), deniedCodes[code], status == http.StatusForbidden, status == http.StatusUnauthorized:
		return objectstore.ErrDenied
	}
	return nil
}

// putError applies the result table of a slot PUT. What it does not know is ambiguous: that costs a repeat of the same
// bytes, the contrary mistake an acknowledged record.
func putError(ctx context.Context, err error) error {
	status, _ := answer(err)
	outcome := configuration(err)
	switch {
	case status == http.StatusPreconditionFailed:
		outcome = objectstore.ErrConflict
	case outcome == nil && status == http.StatusNotFound:
		outcome = objectstore.ErrNoBucket // nothing else can be missing
	case outcome == nil:
		outcome = objectstore.ErrAmbiguous
	}
	return withContext(ctx, fmt.Errorf("%w: %w", outcome, err))
}

// readError classifies a failed read or delete; nil stays nil.
func readError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	status, code := answer(err)
	switch outcome := configuration(err); {
	case outcome != nil:
		err = fmt.Errorf("%w: %w", outcome, err)
	case code == "NoSuchKey": // any other 404 may come from something before the service
		err = fmt.Errorf("%w: %w", objectstore.ErrNotFound, err)
	case status == http.StatusRequestedRangeNotSatisfiable:
		err = fmt.Errorf("%w: %w", objectstore.ErrRange, err)
	}
	return withContext(ctx, err)
}

// withContext makes an error after the caller's ctx ended say so, whatever the connection reported first.
func withContext(ctx context.Context, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		return fmt.Errorf("%w: %w", ended, err)
	}
	return err
}
