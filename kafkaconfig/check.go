package kafkaconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// check refuses a parsed value in Kafka's words, or returns nil.
type check func(k *Key, v parsed) error

// parsed is a value in the form of its type; the others are zero.
type parsed struct {
	text   string // in Kafka's normal form: what DescribeConfigs shows
	number float64
	int    int64
	list   []string
	flag   bool
}

func atLeast(low float64) check { return between(low, math.Inf(1)) }

func between(low, high float64) check {
	return func(k *Key, v parsed) error {
		switch {
		case v.number < low:
			return k.refuse(v.text, "Value must be at least "+number(low))
		case v.number > high:
			return k.refuse(v.text, "Value must be no more than "+number(high))
		}
		return nil
	}
}

func betweenOr(low, high, exception float64) check {
	return func(k *Key, v parsed) error {
		if v.number == exception || low <= v.number && v.number <= high {
			return nil
		}
		return k.refuse(v.text, fmt.Sprintf("Value must be between %s and %s or equal to %s", number(low), number(high), number(exception)))
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func oneOf(allowed ...string) check {
	return func(k *Key, v parsed) error {
		if slices.Contains(allowed, v.text) {
			return nil
		}
		return k.refuse(v.text, "String must be one of: "+strings.Join(allowed, ", "))
	}
}

func oneOfFold(allowed ...string) check {
	return func(k *Key, v parsed) error {
		if slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v.text) }) {
			return nil
		}
		return k.refuse(v.text, "String must be one of (case insensitive): "+strings.Join(allowed, ", "))
	}
}

func nonEmpty(k *Key, v parsed) error {
	if v.text == "" {
		return k.refuse(v.text, "String must be non-empty")
	}
	return nil
}

func listOf(allowed ...string) check {
	return func(k *Key, v parsed) error {
		for _, s := range v.list {
			if s == "" {
				return &Error{InvalidConfig, "Configuration '" + k.Name + "' values must not be empty."}
			}
			if !slices.Contains(allowed, s) {
				return k.refuse(s, "String must be one of: "+strings.Join(allowed, ", "))
			}
		}
		return nil
	}
}

// throttledReplicas wants "*", or pairs partition:broker.
func throttledReplicas(k *Key, v parsed) error {
	if v.text == "*" {
		return nil
	}
	for _, pair := range v.list {
		p, b, ok := strings.Cut(pair, ":")
		if !ok || !digits(p) || !digits(b) {
			return k.refuse("["+strings.Join(v.list, ", ")+"]", k.Name+" must be the literal '*' or a list of replicas in "+
				"the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...")
		}
	}
	return nil
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func connectionOverrides(_ *Key, v parsed) error {
	_, err := ParseConnectionOverrides(v.text)
	return err
}

// withoutTiering refuses to switch on remote.storage.enable, as a Kafka without tiered storage does: it would promise that
// local.retention.* is kept to.
func withoutTiering(_ *Key, v parsed) error {
	if v.flag {
		return &Error{InvalidConfig, "Tiered Storage functionality is disabled in the broker. " +
			"Topic cannot be configured with remote log storage."}
	}
	return nil
}

// parse reads a value as its type, as Kafka's ConfigDef does: blanks around it do not count.
func (k *Key) parse(value string) (parsed, error) {
	v, err := k.convert(strings.TrimFunc(value, javaBlank))
	if err == nil && k.check != nil {
		err = k.check(k, v)
	}
	return v, err
}

// convert reads text, whose blanks are gone.
func (k *Key) convert(text string) (parsed, error) {
	v := parsed{text: text}
	var err error
	switch k.Type {
	case Boolean:
		v.text = strings.ToLower(text)
		v.flag = v.text == "true"
		if !v.flag && v.text != "false" {
			return v, k.refuse(text, "Expected value to be either true or false")
		}
	case Int, Short, Long:
		v.int, err = strconv.ParseInt(text, 10, bits[k.Type])
		v.number, v.text = float64(v.int), decimal(v.int)
	case Double:
		v.number, err = strconv.ParseFloat(strings.TrimRight(text, "fFdD"), 64)
		if math.IsNaN(v.number) { // Kafka takes it, and then compares with it
			err = strconv.ErrSyntax
		}
		v.text = javaDouble(v.number)
	case List:
		v.list = ParseList(text)
		v.text = strings.Join(v.list, ",")
	case String, Class, Password:
	}
	if err != nil {
		return v, k.refuse(text, "Not a number of type "+k.Type.String())
	}
	return v, nil
}

var bits = map[Type]int{Short: 16, Int: 32, Long: 64}

// javaDouble prints a number as Java does: 0.5, 1.0, 1.0E-5.
func javaDouble(f float64) string {
	if a := math.Abs(f); a != 0 && (a < 1e-3 || a >= 1e7) {
		mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'E', -1, 64), "E")
		n, _ := strconv.Atoi(exponent) // FormatFloat wrote it
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		return mantissa + "E" + strconv.Itoa(n)
	}
	s := number(f)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

var typeNames = map[Type]string{
	Boolean: "BOOLEAN", String: "STRING", Int: "INT", Short: "SHORT", Long: "LONG", Double: "DOUBLE",
	List: "LIST", Class: "CLASS", Password: "PASSWORD",
}

// String names the type as Kafka does.
func (t Type) String() string { return typeNames[t] }

func (k *Key) refuse(value, why string) error {
	if k.Sensitive() {
		value = "[hidden]"
	}
	return &Error{Kind: InvalidConfig, Message: fmt.Sprintf("Invalid value %s for configuration %s: %s", value, k.Name, why)}
}

// ParseList splits a list value as Kafka does: on commas, without the blanks around them. An empty value is no entry, but
// "a,,b" has an empty one.
func ParseList(value string) []string {
	text := strings.TrimFunc(value, javaBlank)
	if text == "" {
		return nil
	}
	list := strings.Split(text, ",")
	for i, s := range list {
		list[i] = strings.TrimFunc(s, javaBlank)
	}
	return list
}

// javaBlank is what Java's String.trim removes.
func javaBlank(r rune) bool { return r <= ' ' }
