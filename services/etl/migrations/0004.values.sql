-- A text that begins with apostrophes and then as a formula does is escaped too, so that each is read as it was.
CREATE OR REPLACE FUNCTION api.cell(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT CASE WHEN value ~ '^''*[=+@\t\r-]' THEN '''' || value ELSE value END $$;

-- Keys and values are understood otherwise than before: the next full load reads once more what may mean another thing.
UPDATE etl.sources SET etag = ''
WHERE etag IS NOT NULL AND (kind = 'rows' OR octet_length(key) <> char_length(key));
