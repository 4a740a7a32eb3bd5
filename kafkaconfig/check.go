package kafkaconfig

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// check refuses a parsed value with the reason in Kafka's words; "" when it is fine.
type check func(v parsed) string

// parsed is a value in the form of its type; the others are zero.
type parsed struct {
	text   string // trimmed
	number float64
	int    int64
	list   []string
	flag   bool
}

func atLeast(low float64) check { return between(low, math.Inf(1)) }

func between(low, high float64) check {
	return func(v parsed) string {
		switch {
		case v.number < low:
			return "Value must be at least " + number(low)
		case v.number > high:
			return "Value must be no more than " + number(high)
		}
		return ""
	}
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// or also allows one more number.
func (c check) or(exception float64) check {
	return func(v parsed) string {
		if v.number == exception {
			return ""
		}
		return c(v)
	}
}

func oneOf(allowed ...string) check {
	return func(v parsed) string {
		if slices.Contains(allowed, v.text) {
			return ""
		}
		return "String must be one of: " + strings.Join(allowed, ", ")
	}
}

func oneOfFold(allowed ...string) check {
	return func(v parsed) string {
		if slices.ContainsFunc(allowed, func(a string) bool { return strings.EqualFold(a, v.text) }) {
			return ""
		}
		return "String must be one of (case insensitive): " + strings.Join(allowed, ", ")
	}
}

func nonEmpty(v parsed) string {
	if v.text == "" {
		return "String must be non-empty"
	}
	return ""
}

func listOf(allowed ...string) check {
	return func(v parsed) string {
		for _, s := range v.list {
			if !slices.Contains(allowed, s) {
				return "String must be one of: " + strings.Join(allowed, ", ")
			}
		}
		return ""
	}
}

func uniqueListOf(allowed ...string) check {
	each := listOf(allowed...)
	return func(v parsed) string {
		for i, s := range v.list {
			if slices.Contains(v.list[:i], s) {
				return "entry \"" + s + "\" is given twice"
			}
		}
		return each(v)
	}
}

// throttledReplicas wants "*", or pairs partition:broker.
func throttledReplicas(v parsed) string {
	if len(v.list) == 0 || v.text == "*" {
		return ""
	}
	for _, pair := range v.list {
		p, b, ok := strings.Cut(pair, ":")
		if !ok || !digits(p) || !digits(b) {
			return v.text + " must be the literal '*' or a list of replicas in the following format: " +
				"[partitionId]:[brokerId],[partitionId]:[brokerId],..."
		}
	}
	return ""
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// parse reads a value as its type, as Kafka's ConfigDef does: blanks around it do not count.
func (k *Key) parse(value string) (parsed, error) {
	v := parsed{text: strings.TrimFunc(value, javaBlank)}
	var err error
	switch k.Type {
	case Boolean:
		v.flag = strings.EqualFold(v.text, "true")
		if !v.flag && !strings.EqualFold(v.text, "false") {
			return v, k.refuse(value, "Expected value to be either true or false")
		}
	case Int:
		v.int, err = strconv.ParseInt(v.text, 10, 32)
		v.number = float64(v.int)
	case Short:
		v.int, err = strconv.ParseInt(v.text, 10, 16)
		v.number = float64(v.int)
	case Long:
		v.int, err = strconv.ParseInt(v.text, 10, 64)
		v.number = float64(v.int)
	case Double:
		v.number, err = strconv.ParseFloat(v.text, 64)
		if v.number != v.number {
			return v, k.refuse(value, "Not a number of type DOUBLE")
		}
	case List:
		v.list = ParseList(value)
	case String, Class, Password:
	}
	if err != nil {
		return v, k.refuse(value, "Not a number of type "+typeNames[k.Type])
	}
	if k.check != nil {
		if why := k.check(v); why != "" {
			return v, k.refuse(v.text, why)
		}
	}
	return v, nil
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
