package timestore.example;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.sql.Array;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.LinkedHashMap;
import java.util.Map;

/** A row as JSON has it: bytes in base64, and as text what JSON has no type for. */
final class Row {
  private static final ObjectMapper JSON = new ObjectMapper();

  static String json(ResultSet rows) throws SQLException, JsonProcessingException {
    ResultSetMetaData columns = rows.getMetaData();
    Map<String, Object> row = new LinkedHashMap<>();
    for (int column = 1; column <= columns.getColumnCount(); column++) {
      row.put(columns.getColumnLabel(column), plain(value(rows, column)));
    }
    return JSON.writeValueAsString(row);
  }

  /** The driver gives instants only to who asks for this class. */
  private static Object value(ResultSet rows, int column) throws SQLException {
    boolean instant = rows.getMetaData().getColumnType(column) == Types.TIMESTAMP_WITH_TIMEZONE;
    return instant ? rows.getObject(column, OffsetDateTime.class) : rows.getObject(column);
  }

  private static Object plain(Object value) throws JsonProcessingException {
    if (value == null || value instanceof Number || value instanceof Boolean || value instanceof byte[]) {
      return value;
    }
    if (value instanceof Array || value instanceof Map) { // the driver's lists, structs and maps print as JSON
      return JSON.readTree(value.toString());
    }
    return value.toString();
  }
}
