package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/jackc/pgproto3/v2"
)

// Type OIDs whose binary form is read for recordings. Others are recorded in hex.
const (
	oidBool, oidName, oidInt8, oidInt2, oidInt4, oidText, oidOID = 16, 19, 20, 21, 23, 25, 26
	oidJSON, oidFloat4, oidFloat8, oidUnknown                    = 114, 700, 701, 705
	oidBPChar, oidVarchar, oidUUID                               = 1042, 1043, 2950
)

// formatOf is the format of the i-th value: one code for all, one each, or none for text.
func formatOf(codes []int16, i int) int16 {
	switch {
	case len(codes) == 1:
		return codes[0]
	case i < len(codes):
		return codes[i]
	}
	return 0
}

func typeOf(types []uint32, i int) uint32 {
	if i < len(types) {
		return types[i]
	}
	return 0
}

// readable is a value as people read it.
func readable(value []byte, format int16, oid uint32) string {
	if format == 0 {
		return string(value)
	}
	switch {
	case oid == oidBool && len(value) == 1:
		return strconv.FormatBool(value[0] != 0)
	case oid == oidInt2 && len(value) == 2:
		return strconv.Itoa(int(int16(binary.BigEndian.Uint16(value))))
	case oid == oidInt4 && len(value) == 4:
		return strconv.Itoa(int(int32(binary.BigEndian.Uint32(value))))
	case oid == oidOID && len(value) == 4:
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(value)), 10)
	case oid == oidInt8 && len(value) == 8:
		return strconv.FormatInt(int64(binary.BigEndian.Uint64(value)), 10)
	case oid == oidFloat4 && len(value) == 4:
		return strconv.FormatFloat(float64(math.Float32frombits(binary.BigEndian.Uint32(value))), 'g', -1, 32)
	case oid == oidFloat8 && len(value) == 8:
		return strconv.FormatFloat(math.Float64frombits(binary.BigEndian.Uint64(value)), 'g', -1, 64)
	case oid == oidUUID && len(value) == 16:
		h := hex.EncodeToString(value)
		return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
	}
	switch oid {
	case oidText, oidName, oidJSON, oidUnknown, oidBPChar, oidVarchar:
		if utf8.Valid(value) {
			return string(value)
		}
	}
	return `\x` + hex.EncodeToString(value)
}

// appendRow appends a DataRow as a line of COPY's text format. Its inner lengths are checked on the way.
func appendRow(dst, body []byte, fields []pgproto3.FieldDescription, formats []int16) ([]byte, bool) {
	if len(body) < 2 {
		return dst, false
	}
	count, rest := int(binary.BigEndian.Uint16(body)), body[2:]
	for i := 0; i < count; i++ {
		if len(rest) < 4 {
			return dst, false
		}
		n := int32(binary.BigEndian.Uint32(rest))
		rest = rest[4:]
		if n < -1 || int64(n) > int64(len(rest)) {
			return dst, false
		}
		if i > 0 {
			dst = append(dst, '\t')
		}
		if n == -1 {
			dst = append(dst, `\N`...)
			continue
		}
		format, oid := formatOf(formats, i), uint32(0)
		if i < len(fields) {
			oid = fields[i].DataTypeOID
		}
		dst = appendEscaped(dst, readable(rest[:n], format, oid))
		rest = rest[n:]
	}
	return append(dst, '\n'), len(rest) == 0
}

func appendEscaped(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\t':
			dst = append(dst, `\t`...)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\\':
			dst = append(dst, `\\`...)
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// appendHeading appends the column names as a line.
func appendHeading(dst []byte, fields []pgproto3.FieldDescription) []byte {
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, '\t')
		}
		dst = appendEscaped(dst, string(f.Name))
	}
	return append(dst, '\n')
}
