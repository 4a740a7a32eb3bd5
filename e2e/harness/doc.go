// Package harness runs brokers, Java programs and command-line clients as child processes of a test.
//
// Every process is ended by its id when the test ends; its output is kept and the tail printed when the test failed.
// With TIDEMILL_E2E_BROKER=kafka the same tests run against a real Apache Kafka: that proves what they expect.
package harness
