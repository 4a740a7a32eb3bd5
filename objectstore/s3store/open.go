package s3store

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/objectstore"
)

// Config names a bucket and the way to it. Only Bucket is required.
type Config struct {
	Bucket string
	Prefix string // of all keys; a "/" is put between if missing

	Endpoint  string // URL of a service other than AWS
	Region    string // empty: from the environment; with an Endpoint at last us-east-1, which others take for any
	PathStyle bool   // bucket in the path rather than in the host name

	Credentials aws.CredentialsProvider // nil: the environment and files that the AWS tools use

	// How long an attempt may make no progress, default 5 s. What the caller's context allows bounds all of it.
	PutTimeout  time.Duration // hedged long before
	ReadTimeout time.Duration // there are up to 3 attempts
}

// openTimeout bounds the requests of Open; a person is waiting for its error.
const openTimeout = 15 * time.Second

// Open checks that the bucket can be reached and listed, and finds out, with one object that it deletes, how the
// service verifies bodies. ErrDenied, ErrNoBucket or another error otherwise, saying how to mend it.
func Open(ctx context.Context, c Config) (*Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := openReachable(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := s.chooseChecksums(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open bucket %s: %w", c.Bucket, err), s.Close())
	}
	s.learnTemplate(ctx)
	return s, nil
}

// OpenReadOnly is Open without the test object, for who may only list and read. Close it after its last use.
func OpenReadOnly(ctx context.Context, c Config) (objectstore.Store, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := openReachable(ctx, c)
	if err != nil {
		return nil, err
	}
	return objectstore.ReadOnly(s), nil
}

// openReachable returns a Store whose bucket could be listed.
func openReachable(ctx context.Context, c Config) (*Store, error) {
	c.PutTimeout = cmp.Or(c.PutTimeout, 5*time.Second)
	c.ReadTimeout = cmp.Or(c.ReadTimeout, 5*time.Second)
	if c.Prefix = strings.Trim(c.Prefix, "/"); c.Prefix != "" {
		c.Prefix += "/"
	}
	loaded, err := load(ctx, &c)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", c.Bucket, err)
	}
	s := &Store{config: c, loaded: loaded, conn: connect(c, loaded), checksums: Header}
	if err := s.reach(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open bucket %s: %w", c.Bucket, err), s.Close())
	}
	return s, nil
}

// load reads the AWS settings of the environment and fills in c's region.
func load(ctx context.Context, c *Config) (aws.Config, error) {
	options := []func(*config.LoadOptions) error{
		config.WithRequestChecksumCalculation(aws.RequestChecksumCalculationWhenRequired),
		config.WithResponseChecksumValidation(aws.ResponseChecksumValidationWhenRequired),
	}
	if c.Region != "" {
		options = append(options, config.WithRegion(c.Region))
	}
	if c.Credentials != nil {
		options = append(options, config.WithCredentialsProvider(c.Credentials))
	}
	loaded, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("read AWS settings: %w", err)
	}
	if c.Region = loaded.Region; c.Region == "" {
		if c.Endpoint == "" && loaded.BaseEndpoint == nil {
			return aws.Config{}, errors.New("no region is set: add ?region= to the URL or set AWS_REGION")
		}
		c.Region, loaded.Region = "us-east-1", "us-east-1"
	}
	loaded.Credentials = aws.NewCredentialsCache(credentials{loaded.Credentials})
	return loaded, nil
}

// credentials marks a failure to get any, before a request is sent, as a denial.
type credentials struct{ aws.CredentialsProvider }

func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	got, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		return got, fmt.Errorf("%w: no credentials found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE: %w",
			objectstore.ErrDenied, err)
	}
	return got, err
}

// A connection is a pool of connections and the clients that share it.
type connection struct {
	transport *http.Transport
	once      *s3.Client // for Put: never repeats a request
	retried   *s3.Client // for requests that may be repeated
}

func connect(c Config, loaded aws.Config) *connection {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dial,
		TLSHandshakeTimeout: 3 * time.Second,
		MaxIdleConns:        512,
		MaxIdleConnsPerHost: 256, // all slots and reads in flight at a busy time; the default of 2 would reconnect
		MaxConnsPerHost:     512,
		IdleConnTimeout:     30 * time.Second, // below what services allow, lest a Put meets a closing connection
		WriteBufferSize:     8 << 10,          // for headers: see conn
		ReadBufferSize:      64 << 10,
		DisableCompression:  true,
	}
	client := func(patience time.Duration, retryer aws.Retryer) *s3.Client {
		return s3.NewFromConfig(loaded, func(o *s3.Options) {
			if c.Endpoint != "" {
				o.BaseEndpoint = &c.Endpoint
			}
			o.UsePathStyle = c.PathStyle
			o.Retryer = retryer
			o.HTTPClient = &sender{http.Client{Transport: transport, CheckRedirect: keepRedirect}, patience}
			o.ContinueHeaderThresholdBytes = -1 // a round trip for each slot, to learn what is nearly always "go on"
			o.DisableLogOutputChecksumValidationSkipped = true
		})
	}
	return &connection{
		transport: transport,
		once:      client(c.PutTimeout, aws.NopRetryer{}),
		retried:   client(c.ReadTimeout, retry.NewStandard()),
	}
}

func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: 3 * time.Second, KeepAlive: 15 * time.Second}
	c, err := d.DialContext(ctx, network, addr)
	if tcp, ok := c.(*net.TCPConn); ok {
		return conn{tcp}, nil
	}
	return c, err
}

// keepRedirect returns a redirect as the answer: its signature would not fit elsewhere, and it means a wrong region.
func keepRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// reach lists the bucket, which tells more about what is wrong than HeadBucket does, and says how to mend it.
func (s *Store) reach(ctx context.Context) error {
	_, err := s.conn.retried.ListObjectsV2(ctx, &s3.ListObjectsV2Input{
		Bucket: &s.config.Bucket, Prefix: &s.config.Prefix, MaxKeys: aws.Int32(1),
	})
	if err == nil {
		return nil
	}
	err = readError(ctx, err)
	status, code := answer(err)
	where := s.Where()
	switch {
	case code == "NoSuchBucket":
		return fmt.Errorf("%s has no such bucket: create it, or correct the URL: %w", where, err)
	case code == "PermanentRedirect", code == "AuthorizationHeaderMalformed", status == http.StatusMovedPermanently:
		return fmt.Errorf("the bucket is not in region %s: correct ?region= in the URL or AWS_REGION: %w", s.config.Region, err)
	case code == "InvalidAccessKeyId", code == "SignatureDoesNotMatch":
		return fmt.Errorf("%s does not know the access key or its secret: correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: %w", where, err)
	case code == "RequestTimeTooSkewed":
		return fmt.Errorf("this machine's clock is wrong: set it: %w", err)
	case status == http.StatusForbidden:
		return fmt.Errorf("access is denied: allow s3:ListBucket on the bucket, and s3:GetObject, s3:PutObject and s3:DeleteObject on its objects: %w", err)
	case status == 0 && !errors.Is(err, objectstore.ErrDenied):
		return fmt.Errorf("%s does not answer: start it, or correct the URL: %w", where, err)
	}
	return err
}

// checksumAttempts of the checksum question against answers that decide nothing.
const checksumAttempts = 5

// chooseChecksums sends a body under a wrong checksum and one under the right one: who refuses the first and takes the
// second verifies the header.
func (s *Store) chooseChecksums(ctx context.Context) error {
	verifies, err := s.refusesWrongChecksum(ctx)
	if err != nil {
		return fmt.Errorf("write a test object: %w", err)
	}
	for _, s.checksums = range []Checksums{Header, Signed} {
		if s.checksums == Header && !verifies {
			continue
		}
		key := "probe/checksum-" + rand.Text()
		if err = s.putSurely(ctx, key, []byte("these bytes")); err == nil {
			return s.Delete(ctx, key)
		}
		if status, _ := answer(err); status != http.StatusBadRequest {
			break
		}
	}
	return fmt.Errorf("write a test object: %w", err)
}

// putSurely repeats a Put of a key that nobody else knows until it is decided or refused.
func (s *Store) putSurely(ctx context.Context, key string, body []byte) (err error) {
	for range checksumAttempts {
		err = s.Put(ctx, key, body)
		if status, _ := answer(err); !errors.Is(err, objectstore.ErrAmbiguous) || status == http.StatusBadRequest {
			break
		}
	}
	if errors.Is(err, objectstore.ErrConflict) { // an earlier attempt was stored
		return nil
	}
	return err
}

func (s *Store) refusesWrongChecksum(ctx context.Context) (bool, error) {
	key := "probe/checksum-" + rand.Text()
	var err error
	for range checksumAttempts {
		_, err = s.conn.once.PutObject(ctx, &s3.PutObjectInput{
			Bucket: &s.config.Bucket, Key: aws.String(s.config.Prefix + key), IfNoneMatch: aws.String("*"),
			Body: strings.NewReader("these bytes"), ChecksumCRC32C: aws.String(checksumText(crc32c([]byte("other bytes")))),
		}, s3.WithAPIOptions(v4.SwapComputePayloadSHA256ForUnsignedPayloadMiddleware))
		status, _ := answer(err)
		switch {
		case err == nil, status == http.StatusPreconditionFailed: // it took the wrong bytes, perhaps in an earlier attempt
			return false, s.Delete(ctx, key)
		case configuration(err) != nil:
			return false, putError(ctx, err)
		case status == http.StatusBadRequest:
			return true, nil
		}
	}
	return false, putError(ctx, err)
}
