import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.server.config.ConfigSynonym;
import org.apache.kafka.server.config.DynamicBrokerConfig;
import org.apache.kafka.server.config.ServerTopicConfigSynonyms;
import org.apache.kafka.storage.internals.log.LogConfig;

/** Prints kafka-4.3.1.tsv. Run with the jars of org.apache.kafka:kafka_2.13:4.3.1 and what it depends on. */
public class DumpConfigs {
    public static void main(String[] args) {
        Map<String, String> modes = DynamicBrokerConfig.dynamicConfigUpdateModes();
        for (var k : new TreeMap<>(LogConfig.configKeys()).values()) print("T", k, "");
        for (var k : new TreeMap<>(kafka.server.KafkaConfig.configDef().configKeys()).values())
            print("B", k, modes.getOrDefault(k.name, "read-only"));
        for (var e : new TreeMap<>(ServerTopicConfigSynonyms.ALL_TOPIC_CONFIG_SYNONYMS).entrySet()) {
            StringBuilder line = new StringBuilder("S\t" + e.getKey());
            for (ConfigSynonym s : e.getValue()) {
                line.append('\t').append(s.name());
                if (s.converter() == ConfigSynonym.HOURS_TO_MILLISECONDS) line.append("*h");
                if (s.converter() == ConfigSynonym.MINUTES_TO_MILLISECONDS) line.append("*m");
            }
            System.out.println(line);
        }
    }

    private static void print(String table, ConfigDef.ConfigKey k, String mode) {
        String value = "\\R";
        if (k.hasDefault()) value = k.defaultValue == null ? "\\N" : ConfigDef.convertToString(k.defaultValue, k.type);
        System.out.println(String.join("\t", table, k.name, k.type.name(), value,
            k.validator == null ? "\\N" : k.validator.toString(), String.valueOf(k.internalConfig), mode));
    }
}
