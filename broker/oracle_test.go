package broker

import "os"

// oracle is the address of an Apache Kafka to hold the expectations of the tests of bad input against. What any broker can be
// asked is in package conformance.
var oracle = os.Getenv("TIDEMILL_ORACLE")
