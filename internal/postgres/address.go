package postgres

import (
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/seed-4adef13c/caddy-stale-session/internal/deadline"
	"github.com/seed-4adef13c/caddy-stale-session/internal/location"
)

// Errors of an address. They quote nothing of it, because any part may be a
// password.
var (
	errAddress   = errors.New("cannot parse the database address: write postgres://user:password@host:5432/database, with special characters in the password percent-encoded, or host=… user=… dbname=…")
	errParameter = errors.New("the database address has an invalid parameter: check sslmode, the ports and the certificate files")
	errPrisma    = errors.New("the database address is that of Prisma's HTTP proxy: use the direct postgres:// address of the database")
	errEscape    = errors.New("it is not clear which part of the database address is the password: percent-encode the characters ?, #, / and @ of the user and the password (%3F, %23, %2F, %40), also where they are parameters")
	errHost      = errors.New("the database address has an invalid host: write postgres://user:password@host:5432/database, with the characters ?, #, /, @ and : of the password percent-encoded")
	errDatabase  = errors.New("the database address has no plain name of a database: write postgres://user:password@host:5432/database, with special characters percent-encoded, or host=… user=… password=… dbname=…")
	errKeyword   = errors.New("the database address has a setting that is not one of Postgres: write postgres://user:password@host:5432/database, or host=… user=… password='…' dbname=… with quotes around a password that contains spaces; addresses of ADO.NET are not understood")
	errService   = errors.New("the database address names a service of pg_service.conf, which is not read: write its host, user, password and database into the address")
	errTwice     = errors.New("the database address has a setting twice: if that is part of the password, percent-encode the & and = of it in a URL, or put quotes around it (password='…')")
)

// address is a parsed database address.
type address struct {
	settings settings
	// schema is the schema of the users table: Prisma's parameter.
	schema string
	// limit is the maximum number of connections; 0 for no limit.
	limit int
	// pooled reports whether a transaction pooler is in front of the server: it
	// accepts no settings of a session.
	pooled bool
}

// parseAddress parses a connection URL or a keyword/value string, in the
// dialects of libpq, Prisma, node-postgres, SQLAlchemy and JDBC.
func parseAddress(dsn string) (address, error) {
	dsn = strings.TrimSpace(dsn)
	if len(dsn) > 1 && (dsn[0] == '"' || dsn[0] == '\'') && dsn[len(dsn)-1] == dsn[0] {
		dsn = dsn[1 : len(dsn)-1] // `docker run --env-file` keeps the quotes
	}
	scheme, rest, isURL := strings.Cut(strings.TrimPrefix(dsn, "jdbc:"), "://")
	if !isURL || strings.ContainsAny(scheme, "= '") {
		settings, err := parseKeywords(dsn)
		if err != nil {
			return address{}, err
		}
		return translate(settings)
	}
	switch base, _, _ := strings.Cut(scheme, "+"); {
	case base == "prisma":
		return address{}, errPrisma
	case base != "postgres" && base != "postgresql":
		return address{}, errAddress
	case scheme == "prisma+postgres":
		return address{}, errPrisma
	}
	settings, err := parseURL(rest)
	if err != nil {
		return address{}, err
	}
	return translate(settings)
}

// settings are the parts and parameters of an address, under libpq's names.
type settings map[string]string

// set sets a setting, which must not be there with another value. A socket takes the
// place of localhost, as in the addresses of Google Cloud SQL.
func (s settings) set(name, value string) error {
	if name == "dbname" {
		name = "database"
	}
	if known, found := s[name]; found && known != "" && known != value && (name != "host" || known != "localhost" || !strings.HasPrefix(value, "/")) {
		return errTwice
	}
	s[name] = value
	return nil
}

// check returns an error if what is shown of the address, the hosts and the
// database, can hold part of a password.
func (s settings) check() error {
	for host := range strings.SplitSeq(s["host"], ",") {
		isSocket := strings.HasPrefix(host, "/") && !strings.ContainsAny(host, "@;=?&#")
		if host != "" && !isSocket && !location.ValidHost(host) {
			return errHost
		}
	}
	if database := s["database"]; strings.Contains(database, "://") || strings.ContainsAny(database, "=\x00") {
		return errDatabase
	}
	return nil
}

// parseURL parses what follows the scheme of a connection URL. Unlike libpq, it
// accepts characters that should have been escaped, if they can only be part of the
// password: up to the last @ before the parameters.
func parseURL(rest string) (settings, error) {
	rest, query, _ := strings.Cut(rest, "?")
	if strings.Contains(query, "@") {
		return nil, errEscape
	}
	for parameter := range strings.SplitSeq(query, "&") {
		if name, _, found := strings.Cut(parameter, "="); parameter != "" && !found || !location.Plain(name, "-._%") {
			return nil, errEscape
		}
	}
	s := make(settings)
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, _ := strings.Cut(rest[:at], ":")
		if strings.ContainsAny(user, ";,=&/") { // what is before is the host, perhaps, and the @ in a password
			return nil, errEscape
		}
		s["user"], s["password"] = unescape(user), unescape(password)
		rest = rest[at+1:]
	}
	hosts, database, _ := strings.Cut(rest, "/")
	if strings.ContainsAny(database, ":;=&") {
		return nil, errDatabase
	}
	s["database"] = unescape(database)
	var names, ports []string
	for host := range strings.SplitSeq(hosts, ",") {
		name, port := host, ""
		if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
			name, port = host[:i], host[i+1:]
		}
		names = append(names, strings.Trim(unescape(name), "[]"))
		ports = append(ports, port)
	}
	s["host"], s["port"] = strings.Join(names, ","), strings.Join(ports, ",")
	parameters, err := url.ParseQuery(query)
	if err != nil {
		return nil, errAddress
	}
	for name, values := range parameters {
		for _, value := range values {
			if err := s.set(name, value); err != nil {
				return nil, err
			}
		}
	}
	return s, nil
}

// unescape decodes percent escapes. It returns a text with malformed escapes as
// it is.
func unescape(text string) string {
	if decoded, err := url.PathUnescape(text); err == nil {
		return decoded
	}
	return text
}

// parseKeywords parses a keyword/value string.
func parseKeywords(dsn string) (settings, error) {
	s := make(settings)
	for dsn = strings.TrimLeft(dsn, " \t\r\n"); dsn != ""; dsn = strings.TrimLeft(dsn, " \t\r\n") {
		name, rest, found := strings.Cut(dsn, "=")
		name = strings.TrimSpace(name)
		if !found || name == "" {
			return nil, errAddress
		}
		if !slices.Contains(known, name) && !slices.Contains(understood, name) {
			return nil, errKeyword
		}
		rest = strings.TrimLeft(rest, " \t\r\n")
		quoted := strings.HasPrefix(rest, "'")
		value, rest, ok := keywordValue(rest)
		if !ok {
			return nil, errAddress
		}
		if !quoted && name != "password" && strings.Contains(value, ";") { // as ADO.NET separates settings
			return nil, errKeyword
		}
		if err := s.set(name, value); err != nil {
			return nil, err
		}
		dsn = rest
	}
	if len(s) == 0 {
		return nil, errAddress
	}
	return s, nil
}

// keywordValue parses a value, quoted or not, and returns what follows it.
func keywordValue(text string) (value, rest string, ok bool) {
	quoted := strings.HasPrefix(text, "'")
	if quoted {
		text = text[1:]
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text):
			i++
			b.WriteByte(text[i])
		case quoted && c == '\'':
			return b.String(), text[i+1:], true
		case !quoted && strings.IndexByte(" \t\r\n", c) >= 0:
			return b.String(), text[i:], true
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), "", !quoted
}

// setsPath reports whether the address sets the search path, for the app too.
func (a address) setsPath() bool {
	return a.settings["search_path"] != "" || strings.Contains(a.settings["options"], "search_path")
}

// poolConfig returns the configuration of a pool for the address.
func (a address) poolConfig() (*pgxpool.Config, error) {
	settings := make(map[string]string)
	for name, value := range fromEnvironment {
		settings[name] = value
	}
	settings["connect_timeout"] = strconv.Itoa(int(deadline.Connect.Seconds()))
	for name, value := range a.settings {
		settings[name] = value
	}
	if os.Getenv("PGSERVICE") != "" {
		file, err := emptyService()
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(filepath.Dir(file))
		settings["service"], settings["servicefile"] = applicationName, file
	}
	var dsn strings.Builder
	for name, value := range settings {
		dsn.WriteString(name + "='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "' ")
	}
	config, err := pgxpool.ParseConfig(dsn.String())
	if err != nil {
		return nil, errParameter
	}
	c := config.ConnConfig
	for name, value := range c.RuntimeParams {
		if value == "" {
			delete(c.RuntimeParams, name)
		}
	}
	c.DefaultQueryExecMode = pgx.QueryExecModeExec
	config.MaxConns = maxConns
	if a.limit > 0 {
		config.MaxConns = int32(min(maxConns, a.limit))
	}
	config.MaxConnIdleTime = 5 * time.Minute
	config.MaxConnLifetime = 30 * time.Minute
	config.MaxConnLifetimeJitter = 5 * time.Minute
	config.PingTimeout = time.Second
	return config, nil
}

// emptyService creates a service file without settings. Nothing else keeps pgx
// from the service that PGSERVICE names.
func emptyService() (string, error) {
	dir, err := os.MkdirTemp("", applicationName)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "service")
	return file, os.WriteFile(file, []byte("["+applicationName+"]\n"), 0o600)
}
