package directories

// Class is a kind of failure to look users up. It is a label of the metric
// lookup_errors_total.
type Class string

// The classes of failures.
const (
	// Down: the server cannot be reached or accepts no connections.
	Down Class = "down"
	// Slow: it did not answer in time.
	Slow Class = "slow"
	// Refused: the database, user or password is not accepted.
	Refused Class = "refused"
	// Schema: the table or a column is missing or has the wrong type.
	Schema Class = "schema"
	// Rights: the role may not read.
	Rights Class = "rights"
	// Standby: a replica answered, whose answer proves nothing.
	Standby Class = "standby"
	// Unproven: the subject was not found, but may exist all the same: the role
	// does not see all rows, say.
	Unproven Class = "unproven"
	// Busy: too many lookups are waiting.
	Busy Class = "busy"
	// Other: anything else.
	Other Class = "other"
)

// Classes lists the classes of failures.
var Classes = []Class{Down, Slow, Refused, Schema, Rights, Standby, Unproven, Busy, Other}

// Error is a failure to look users up. It says what to do, and never holds a
// subject or a password.
type Error struct {
	// Class is the kind of failure. After a few failures of class Down, Slow,
	// Refused, Busy or Other, the engine stops asking until the directory answers
	// again.
	Class Class
	// Code is the error code of the server (SQLSTATE); empty if there is none.
	Code string
	// Text says what failed and what to do.
	Text string
}

// Error returns the text and the code.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Text
	}
	return e.Text + " (SQLSTATE " + e.Code + ")"
}
