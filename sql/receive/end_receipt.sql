-- end_receipt: end the received job $1 under its receipt $2 as $3, with result $4; or to run again after $5 and not
-- before $6, or to fail, for reason $7 with error $8; the attempt counts unless $9 is false; a limit goes on if $10;
-- options become $11 and arguments $12 where these are not null.
--
-- Returns what has become of it and what follows (see settle); nulls: the receipt has run out, or never was one of it.

select answer, settled::text
from pgqueue.end_receipt($1, $2, $3, $4::text::json, $5::interval, $6::timestamptz, $7, $8::json, $9, $10, $11::json, $12::text::json)
