-- list_weights: the keys of the fair queue $1 whose weight was set, and their weights.

select key, weight from pgqueue.window_weight where rule = 'fair/' || $1::text order by key
